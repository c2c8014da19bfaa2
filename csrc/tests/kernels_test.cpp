// Every kernel on random inputs against its naive version, from several threads at once.
//
//   kernels_test [ROUNDS] [SEED]
//
// Made to run under the sanitizers: -DCROWD_SANITIZE=address,undefined or thread.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bfloat16.h"
#include "check.h"
#include "crowd/criss_cross_attention.h"
#include "crowd/ddim_update.h"
#include "crowd/find_peaks.h"
#include "crowd/parallel.h"
#include "crowd/preprocess.h"
#include "crowd/to_channels_last.h"
#include "naive.h"
#include "random_input.h"

namespace crowd::test {
namespace {

constexpr int kThreads = 4;
// The kernels round in float: about 40 products and 100 weights for the attention, a few numbers for the
// step. In bfloat16 weights and results are rounded by 2^-9 of their size, the values being of size up to 5.
constexpr double kAttentionTolerance = 4e-5, kBfloat16Tolerance = 2e-2, kStepTolerance = 2e-6;
constexpr float kUnwritten = std::numeric_limits<float>::quiet_NaN();

int threads_of(RandomInput& random) {
  constexpr int kCounts[] = {0, 1, 2, 3, 5};
  return kCounts[random.integer(0, 4)];
}

Values values_of(RandomInput& random) {
  constexpr Values kKinds[] = {Values::normal, Values::strange, Values::few};
  return kKinds[random.integer(0, 2)];
}

// Any that this processor has: left to itself, the kernel would always take the first.
template <typename Element>
const char* version_of(RandomInput& random) {
  const std::vector<const char*> versions = attention_versions<Element>();
  return versions[static_cast<std::size_t>(random.integer(0, static_cast<Index>(versions.size()) - 1))];
}

template <typename Element>
std::vector<float> attend(const Tensor<Element>& q, const Tensor<Element>& k, const Tensor<Element>& v,
                          int threads, const char* version = nullptr) {
  const auto& like = v.view;
  std::vector<Element> out(static_cast<std::size_t>(like.batch * like.height * like.width * like.channels),
                           from_float<Element>(kUnwritten));
  criss_cross_attention(q.view, k.view, v.view, out.data(), threads, version);
  std::vector<float> wide;
  for (const Element value : out) wide.push_back(to_float(value));
  return wide;
}

template <typename Element>
void try_attention(RandomInput& random, double tolerance) {
  const Index b = random.integer(1, 2), h = random.side(40), w = random.side(70);
  const Index d = random.side(40), c = random.side(70);
  const Values values = values_of(random);
  const auto q = random.tensor<Element>(b, h, w, d, values), k = random.tensor<Element>(b, h, w, d, values);
  const auto v = random.tensor<Element>(b, h, w, c, values);
  const char* version = version_of<Element>(random);
  const std::vector<float> out = attend(q, k, v, threads_of(random), version);
  check_close(out, naive::criss_cross_attention(q.view, k.view, v.view), tolerance,
              std::string(version) + " attention of " + std::to_string(b) + "x" + std::to_string(h) + "x" +
                  std::to_string(w) + "x" + std::to_string(d) + "/" + std::to_string(c));
  check_same(attend(q, k, v, threads_of(random), version), out, "attention with other threads");
}

// The picture is read from the corner that its strides, of either sign, start at.
struct Picture {
  std::vector<std::uint8_t> memory;
  PictureView view;
};

Picture random_picture(RandomInput& random) {
  const Index height = random.integer(0, 40), width = random.integer(0, 60), gap = random.integer(0, 5);
  const Index pixel = random.chance(0.5) ? 3 : 4, row = width * pixel + gap;
  Picture picture{std::vector<std::uint8_t>(static_cast<std::size_t>(height * row)), {}};
  for (std::uint8_t& byte : picture.memory) byte = static_cast<std::uint8_t>(random.integer(0, 255));
  picture.view = {picture.memory.data(), height, width, row, pixel, 1};
  if (height == 0 || width == 0) return picture;
  if (random.chance(0.3)) {
    picture.view.data += (height - 1) * row;
    picture.view.row_stride = -row;
  }
  if (random.chance(0.3)) {
    picture.view.data += (width - 1) * pixel;
    picture.view.pixel_stride = -pixel;
  }
  if (random.chance(0.3)) {
    picture.view.data += 2;
    picture.view.channel_stride = -1;
  }
  return picture;
}

template <typename Element>
void try_preprocess(RandomInput& random) {
  const auto [memory, picture] = random_picture(random);
  const Index height = picture.height + random.integer(0, 20), width = picture.width + random.integer(0, 20);
  const bool channels_last = random.chance(0.5);
  std::vector<Element> table,
      out(static_cast<std::size_t>(3 * height * width), from_float<Element>(kUnwritten));
  for (const float value : random.array(256, Values::strange)) table.push_back(from_float<Element>(value));
  preprocess(picture, table.data(), InputMap<Element>{out.data(), height, width, channels_last},
             threads_of(random));
  for (Index y = 0; y < height; ++y) {
    for (Index x = 0; x < width; ++x) {
      for (Index c = 0; c < 3; ++c) {
        const Index at = channels_last ? (y * width + x) * 3 + c : (c * height + y) * width + x;
        Element expected{};
        if (y < picture.height && x < picture.width) {
          expected = table[picture.data[y * picture.row_stride + x * picture.pixel_stride +
                                        c * picture.channel_stride]];
        }
        if (is_same(to_float(out[static_cast<std::size_t>(at)]), to_float(expected))) continue;
        fail("preprocess at " + std::to_string(y) + ", " + std::to_string(x) + ", " + std::to_string(c));
      }
    }
  }
}

template <typename Element>
void try_to_channels_last(RandomInput& random) {
  const Index batch = random.integer(0, 2), channels = random.integer(0, 40);
  const Index pixels = random.chance(0.2) ? random.integer(500, 2000) : random.integer(0, 70);
  std::vector<Element> map(static_cast<std::size_t>(batch * channels * pixels)), out(map.size());
  for (Element& element : map) element = static_cast<Element>(random.integer(0, 1 << 30));
  to_channels_last(map.data(), batch, channels, pixels, out.data(), threads_of(random));
  for (Index i = 0; i < static_cast<Index>(map.size()); ++i) {
    const Index image = i / (channels * pixels), channel = i / pixels % channels, pixel = i % pixels;
    const Index at = (image * pixels + pixel) * channels + channel;
    if (map[static_cast<std::size_t>(i)] != out[static_cast<std::size_t>(at)])
      fail("to_channels_last of " + std::to_string(channels) + " x " + std::to_string(pixels));
  }
}

void try_ddim_update(RandomInput& random) {
  const Index size = random.chance(0.2) ? random.integer(32760, 100000) : random.integer(0, 300);
  const Values values = values_of(random);
  std::vector<float> x_t = random.array(size, values), estimate = random.array(size, values);
  const std::vector<float> x_0 = random.array(size, values);
  std::vector<float> change = random.array(size, values);
  const DdimCoefficients coefficients{random.number(0, 1), random.number(0.05, 1), random.number(0, 1),
                                      random.number(0, 1), random.number(0, 2),    random.number(0, 1)};
  const naive::DdimStep expected = naive::ddim_update(x_t, x_0, estimate, change, coefficients);
  ddim_update(x_t.data(), x_0.data(), estimate.data(), change.data(), size, coefficients, threads_of(random));
  // Noise is divided by sigma, and so are its roundings.
  const double tolerance = kStepTolerance / coefficients.sigma;
  check_close(x_t, expected.x_t, tolerance, "x_t of " + std::to_string(size));
  check_close(estimate, expected.estimate, tolerance, "estimate of " + std::to_string(size));
  check_close(change, expected.change, tolerance, "change of " + std::to_string(size));
}

void try_find_peaks(RandomInput& random) {
  const bool large = random.chance(0.1);
  const Index height = random.integer(0, large ? 150 : 20), width = random.integer(0, large ? 400 : 150);
  const std::vector<float> map = random.array(height * width, values_of(random));
  const double threshold = random.chance(0.1) ? -INFINITY : random.number(-1, 1.5);
  const std::vector<Peak> got = find_peaks(map.data(), height, width, threshold, threads_of(random));
  const std::vector<Peak> expected = naive::find_peaks(map, height, width, threshold);
  const std::string what = "peaks of " + std::to_string(height) + "x" + std::to_string(width);
  check(got.size() == expected.size(), what + ": wrong number");
  for (std::size_t i = 0; i < got.size(); ++i) {
    const bool same =
        got[i].x == expected[i].x && got[i].y == expected[i].y && got[i].score == expected[i].score;
    if (!same) fail(what + ": other peak at " + std::to_string(i));
  }
}

void try_parallel_for(RandomInput& random) {
  const Index tasks = random.integer(0, 40), inner = random.integer(0, 20);
  const int threads = threads_of(random);
  std::vector<int> done(static_cast<std::size_t>(tasks * inner));
  std::vector<Index> busy(static_cast<std::size_t>(count_workers(tasks, threads)));
  parallel_for(tasks, threads, [&](Index task, int worker) {
    // Not atomic: no two threads may hold one worker's number.
    ++busy[static_cast<std::size_t>(worker)];
    parallel_for(inner, 2, [&](Index i, int) { ++done[static_cast<std::size_t>(task * inner + i)]; });
  });
  Index sum = 0;
  for (const Index count : busy) sum += count;
  check(sum == tasks, "parallel_for: wrong number of tasks");
  for (const int count : done) {
    if (count != 1) fail("parallel_for: a task ran " + std::to_string(count) + " times");
  }
  if (tasks == 0) return;
  const Index bad = random.integer(0, tasks - 1);
  try {
    parallel_for(tasks, threads, [&](Index task, int) { check(task != bad, "bad task"); });
  } catch (const std::runtime_error& error) {
    check(error.what() == std::string("bad task"), error.what());
    return;
  }
  check(false, "parallel_for: an exception was lost");
}

// Several threads read one input; each writes to its own output.
void try_shared_input(unsigned seed) {
  RandomInput random(seed);
  const auto q = random.tensor<float>(2, 13, 31, 8, Values::normal);
  const auto k = random.tensor<float>(2, 13, 31, 8, Values::normal);
  const auto v = random.tensor<float>(2, 13, 31, 20, Values::normal);
  const std::vector<float> expected = attend(q, k, v, 1);
  std::vector<std::future<void>> readers;
  for (int i = 0; i < kThreads; ++i) {
    readers.push_back(std::async(std::launch::async, [&, i] {
      check_same(attend(q, k, v, i), expected, "attention of a shared input");
    }));
  }
  for (std::future<void>& reader : readers) reader.get();
}

// Starts a thread that attends while the process ends, as one of a program may that nobody waits for.
void attend_for_ever() {
  std::promise<void> begun;
  std::future<void> under_way = begun.get_future();
  std::thread([begun = std::move(begun)]() mutable {
    RandomInput random(0);
    const auto x = random.tensor<float>(1, 9, 9, 8, Values::normal);
    attend(x, x, x, 2);
    begun.set_value();
    for (;;) attend(x, x, x, 2);
  }).detach();
  under_way.get();
}

void run(int rounds, unsigned seed) {
  std::vector<std::future<void>> workers;
  for (int i = 0; i < kThreads; ++i) {
    workers.push_back(std::async(std::launch::async, [rounds, seed, i] {
      RandomInput random(seed * kThreads + static_cast<unsigned>(i));
      for (int round = 0; round < rounds; ++round) {
        try_attention<float>(random, kAttentionTolerance);
        try_attention<Bfloat16>(random, kBfloat16Tolerance);
        try_preprocess<float>(random);
        try_preprocess<Bfloat16>(random);
        try_to_channels_last<std::uint16_t>(random);
        try_to_channels_last<std::uint32_t>(random);
        try_ddim_update(random);
        try_find_peaks(random);
        try_parallel_for(random);
      }
    }));
  }
  for (std::future<void>& worker : workers) worker.get();
  try_shared_input(seed);
  attend_for_ever();
}

}  // namespace
}  // namespace crowd::test

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 50;
  const unsigned seed = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 1;
  try {
    crowd::test::run(rounds, seed);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "seed %u: %s\n", seed, error.what());
    return 1;
  }
  std::printf("%d rounds in %d threads agree\n", rounds, crowd::test::kThreads);
}
