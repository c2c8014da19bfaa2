#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace crowd {

// Whatever goes wrong. what() is the engine's own message, which says what was got, what was expected and
// what to do; type() is the name of the Python class: "ConfigError", "ImageError", "BundleError",
// "BackendError", "NotFiniteError" and "OutOfMemoryError" (kinds of BackendError: the network gave no finite
// numbers; one picture needs more of the GPU's memory than is left) or "EngineError"; "ModuleNotFoundError"
// where the engine is not installed for that Python; and for what the engine did not foresee that of another
// exception.
class Error : public std::runtime_error {
 public:
  Error(const std::string& type, const std::string& message) : std::runtime_error(message), type_(type) {}

  const char* type() const noexcept { return type_.what(); }

 private:
  // Held by a type that copies without throwing, as a copy of an exception must.
  std::runtime_error type_;
};

// How to count; each field is the argument of that name of engine.CrowdCounter.
struct Options {
  std::string model = "default";  // the shipped model, or the path of a bundle
  std::string device = "auto";    // "auto", "cpu", "cuda" or "cuda:N"
  std::string backend = "auto";   // "auto", "openvino", "tensorrt" or "torch"
  std::string compute_type = "default";
  std::optional<int> steps;  // denoising steps; the model's own number where not given
  int samples = 1;
  std::int64_t seed = 0;
  int cpu_threads = 0;                   // 0: all cores
  std::string cache_dir;                 // folder for compiled models; empty: the engine's own choice
  std::string performance = "balanced";  // or "latency", "throughput"
  // Python executable of the environment that has the engine, say "/opt/app/venv/bin/python". Empty: the one
  // in the folder that VIRTUAL_ENV names, else Python's own rule (PYTHONHOME, else python3 in PATH).
  std::string python;
};

enum class Color { rgb, bgr };

// Read-only view of a picture: 8-bit pixels of 1 (grey), 3 or 4 (with alpha) channels. Strides count bytes
// and may be negative. The pixels are read during the call only.
struct Image {
  const std::uint8_t* data;
  std::ptrdiff_t height, width;
  std::ptrdiff_t channels = 3;
  std::ptrdiff_t row_stride = 0;    // from one row to the next; 0: rows follow each other
  std::ptrdiff_t pixel_stride = 0;  // from one pixel to the next; 0: pixels follow each other
  Color color = Color::rgb;
};

// In pixels of the upright picture; the centre of the first pixel is (0.5, 0.5).
struct Point {
  float x, y;
};

struct Map {
  std::ptrdiff_t height = 0, width = 0;
  std::vector<float> values;  // [height, width]

  float at(std::ptrdiff_t y, std::ptrdiff_t x) const {
    return values.at(static_cast<std::size_t>(y * width + x));
  }
};

// The people in one picture; the fields are those of engine.CountResult, without lines and intervals of
// zones.
struct CountResult {
  struct Interval {
    int low = 0, high = 0;
  };
  struct Size {
    int width = 0, height = 0;
  };

  int count = 0;
  std::vector<Point> points;  // of each head
  std::vector<float> scores;  // of each head, in [0, 1]
  Map heatmap;                // in [0, 1], one peak for each head
  Map density;                // people per cell; sums to count
  Map uncertainty;            // in [0, 1]
  Interval interval;          // whole people
  Size image_size;            // pixels of the upright picture
  std::map<std::string, int> zones;
  std::map<std::string, double> timings;  // milliseconds of each stage
  std::vector<std::string> warnings;
};

// What one call may ask for beyond the counter's options.
struct CountOptions {
  std::optional<int> steps, samples;                // instead of the counter's own
  std::map<std::string, std::vector<Point>> zones;  // polygons, by name
};

// Counts the people in pictures, says where each one is, and how sure it is: engine.CrowdCounter for C++.
//
// The Python engine runs inside this process. An interpreter that runs already is used; else the first
// counter starts one, which lives as long as the process, installs no signal handlers, and keeps the lock
// released between calls. The interpreter is of the version that this library was built for.
//
// One counter may be used from several threads at once, and counters may be made and destroyed in any. Every
// function takes the interpreter lock itself, whether the caller holds it or not. A program that holds the
// lock must release it while it waits for other threads that count, and must not end its interpreter before
// they have ended. In a process that is forked from one with a counter no counter counts ("BackendError").
// All functions but the destructor throw Error.
class Counter {
 public:
  explicit Counter(const Options& options = {});
  Counter(Counter&&) noexcept;
  Counter& operator=(Counter&&) noexcept;
  ~Counter();

  CountResult count(const Image& image, const CountOptions& options = {}) const;
  // A picture file: JPEG, PNG, WebP, BMP, GIF, TIFF, PNM or AVIF. EXIF orientation is applied.
  CountResult count(const std::filesystem::path& path, const CountOptions& options = {}) const;
  // The bytes of a picture file.
  CountResult count_encoded(const void* bytes, std::size_t size, const CountOptions& options = {}) const;

  // Frees the model; the counter cannot count afterwards. Closing twice is harmless.
  void close();

 private:
  struct Engine;
  const Engine& engine() const;

  std::unique_ptr<Engine> engine_;
};

}  // namespace crowd
