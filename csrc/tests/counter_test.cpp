// crowd::Counter on one picture in several forms and from several threads, and its errors.
//
//   counter_test PICTURE.ppm PYTHON

#include "crowd/counter.h"

#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "pixels.h"

namespace crowd::test {
namespace {

constexpr int kThreads = 4;

void check_equal(const CountResult& a, const CountResult& b, const std::string& what) {
  check(a.count == b.count, what + ": counts " + std::to_string(a.count) + " and " + std::to_string(b.count));
  check(a.interval.low == b.interval.low && a.interval.high == b.interval.high, what + ": other interval");
  check(a.points.size() == b.points.size(), what + ": other number of points");
  for (std::size_t i = 0; i < a.points.size(); ++i) {
    check(a.points[i].x == b.points[i].x && a.points[i].y == b.points[i].y, what + ": another point");
  }
  check_same(a.scores, b.scores, what + ": scores");
  check_same(a.heatmap.values, b.heatmap.values, what + ": heatmap");
}

void check_whole(const CountResult& result, const Pixels& pixels) {
  check(result.count > 0, "nobody found");
  check(result.points.size() == static_cast<std::size_t>(result.count), "not one point for each person");
  check(result.scores.size() == result.points.size(), "not one score for each point");
  check(result.interval.low <= result.count && result.count <= result.interval.high, "count not in interval");
  check(result.image_size.width == pixels.width && result.image_size.height == pixels.height, "wrong size");
  check(result.timings.count("load") == 1, "no timings");
  double people = 0;
  for (const Map* map : {&result.heatmap, &result.density, &result.uncertainty}) {
    check(map->values.size() == static_cast<std::size_t>(map->height * map->width) && map->height > 1,
          "wrong map");
  }
  for (const float density : result.density.values) people += density;
  check(is_close(people, result.count, 1e-3), "density sums to " + std::to_string(people));
  check(result.heatmap.at(0, 1) == result.heatmap.values[1], "Map::at reads another cell");
}

// The picture bottom up, in BGR with an unused fourth byte, and with bytes between the rows.
void check_strides(const Counter& counter, const Pixels& pixels, const CountResult& expected) {
  const std::ptrdiff_t row = pixels.width * 4 + 5;
  std::vector<std::uint8_t> memory(static_cast<std::size_t>(pixels.height * row), 0x55);
  for (std::ptrdiff_t y = 0; y < pixels.height; ++y) {
    for (std::ptrdiff_t x = 0; x < pixels.width; ++x) {
      std::uint8_t* pixel = &memory[static_cast<std::size_t>((pixels.height - 1 - y) * row + x * 4)];
      for (int c = 0; c < 3; ++c) pixel[2 - c] = pixels.at(y, x, c);
    }
  }
  Image image{&memory[static_cast<std::size_t>((pixels.height - 1) * row)], pixels.height, pixels.width};
  image.row_stride = -row;
  image.pixel_stride = 4;
  image.color = Color::bgr;
  check_equal(counter.count(image), expected, "strided BGR pixels");
}

void check_threads(const Counter& counter, const Image& image, const CountResult& expected) {
  std::vector<std::future<void>> workers;
  for (int i = 0; i < kThreads; ++i) {
    workers.push_back(std::async(std::launch::async, [&] {
      for (int round = 0; round < 2; ++round) check_equal(counter.count(image), expected, "another thread");
    }));
  }
  for (std::future<void>& worker : workers) worker.get();
}

template <typename Body>
void check_error(const std::string& type, const std::string& part, const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    check(error.type() == type,
          std::string("expected ") + type + ", got " + error.type() + ": " + error.what());
    check(std::string(error.what()).find(part) != std::string::npos,
          "message without \"" + part + "\": " + error.what());
    return;
  }
  check(false, "expected " + type + " with \"" + part + "\", got no error");
}

void check_errors(const Options& good, const Image& image) {
  Counter counter(good);
  check_error("ImageError", "does not exist", [&] { counter.count("no-such-picture.jpg"); });
  check_error("ImageError", "<bytes>", [&] { counter.count_encoded("no picture", 10); });
  check_error("ImageError", "at no address", [&] { counter.count_encoded(nullptr, 10); });
  // More than any array of Python can hold; and nothing is left of it for the next call.
  check_error("OverflowError", "too large", [&] { counter.count_encoded(image.data, PTRDIFF_MAX); });
  check_error("ImageError", "does not exist", [&] { counter.count("no-such-picture.jpg"); });
  check_error("ImageError", "at no address", [&] { counter.count(Image{nullptr, 4, 4}); });
  check_error("ImageError", "0x4x3", [&] { counter.count(Image{image.data, 0, 4}); });
  check_error("ImageError", "shape [2, 2, 2]", [&] { counter.count(Image{image.data, 2, 2, 2}); });
  check_error("ConfigError", "steps must be", [&] { counter.count(image, {0, {}, {}}); });
  Options options = good;
  options.device = "abacus";
  check_error("ConfigError", "abacus", [&] { Counter wrong(options); });
  options = good;
  options.model = "/no/such/bundle";
  check_error("BundleError", "/no/such/bundle", [&] { Counter wrong(options); });
  options = good;
  options.python = "/no/such/python";
  check_error("ConfigError", "runs", [&] { Counter wrong(options); });
  counter.close();
  counter.close();
  check_error("EngineError", "closed", [&] { counter.count(image); });
  const Counter moved = std::move(counter);
  check_error("EngineError", "moved from", [&] { counter.count(image); });
}

#ifndef _WIN32
// A forked process has none of the engine's threads: it is refused, in place of waiting for them.
void check_forked(const Options& options, const Image& image) {
  Counter counter(options);
  const pid_t child = fork();
  if (child == 0) {
    try {
      check_error("BackendError", "forked", [&] { counter.count(image); });
      check_error("BackendError", "forked", [&] { Counter another(options); });
      const Counter destroyed_here = std::move(counter);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      std::_Exit(1);
    }
    std::_Exit(0);
  }
  int status = 0;
  check(waitpid(child, &status, 0) == child && status == 0, "a forked process is not refused");
  check(counter.count(image).count > 0, "nobody found after a fork");
}
#endif

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void run(const std::string& path, const std::string& python) {
  check_error("ConfigError", "is not a Python executable", [] {
    Options wrong;
    wrong.python = "/no/such/python";
    Counter counter(wrong);
  });
  Options options;
  options.device = "cpu";
  options.compute_type = "float32";
  options.python = python;
  const Pixels pixels = read_ppm(path);
  const Image image{pixels.values.data(), pixels.height, pixels.width};
  const Counter counter(options);
  const CountResult expected = counter.count(std::filesystem::path(path));
  check_whole(expected, pixels);
  check_equal(counter.count(image), expected, "pixels");
  const std::string bytes = read_bytes(path);
  check_equal(counter.count_encoded(bytes.data(), bytes.size()), expected, "bytes");
  check_strides(counter, pixels, expected);
  check_threads(counter, image, expected);
  const float right = static_cast<float>(pixels.width), bottom = static_cast<float>(pixels.height);
  CountOptions everywhere;
  everywhere.zones["all"] = {{0, 0}, {right, 0}, {right, bottom}, {0, bottom}};
  check(counter.count(image, everywhere).zones.at("all") == expected.count, "wrong zone");
  CountOptions samples;
  samples.samples = 2;
  samples.steps = 1;
  check(counter.count(image, samples).count > 0, "nobody found in two samples");
  check_errors(options, image);
#ifndef _WIN32
  check_forked(options, image);
#endif
}

}  // namespace
}  // namespace crowd::test

// Destroyed after main() has returned, when nothing else of the program is left.
static std::unique_ptr<crowd::Counter> forgotten;

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    crowd::test::run(argv[1], argv[2]);
    forgotten = std::make_unique<crowd::Counter>();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
