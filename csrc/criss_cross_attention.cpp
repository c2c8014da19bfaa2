#include "crowd/criss_cross_attention.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "attention_line.h"
#include "crowd/parallel.h"

namespace crowd {
namespace {

// A task is at least so many multiplications, some ten microseconds, and at most so many lines.
constexpr Index kTaskWork = 1 << 19;
constexpr Index kMostLinesPerTask = 8;
// Largest scratch memory, in floats, that a thread keeps between calls.
constexpr Index kKeptFloats = Index{16} << 20;

template <typename Element>
struct Version {
  const char* name;
  LineFunction<Element> attend;
};

// What this processor can run, the fastest first.
template <typename Element>
std::vector<Version<Element>> find_versions() {
  std::vector<Version<Element>> found;
#if CROWD_X86_VERSIONS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
#if CROWD_X86_BF16
    if constexpr (std::is_same_v<Element, Bfloat16>) {
      if (__builtin_cpu_supports("avx512bf16")) found.push_back({"avx512_bf16", attend_line_avx512_bf16});
    }
#endif
    found.push_back({"avx512", attend_line_avx512});
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    found.push_back({"avx2", attend_line_avx2});
  }
#endif
  found.push_back({"portable", attend_line_portable});
  return found;
}

template <typename Element>
const std::vector<Version<Element>>& versions() {
  // Never freed, so that threads still running at exit find them.
  static const auto& found = *new const std::vector<Version<Element>>(find_versions<Element>());
  return found;
}

template <typename Element>
LineFunction<Element> find_version(const char* name) {
  if (name == nullptr) return versions<Element>().front().attend;
  std::string names;
  for (const Version<Element>& version : versions<Element>()) {
    if (std::strcmp(version.name, name) == 0) return version.attend;
    names += (names.empty() ? "" : ", ") + std::string(version.name);
  }
  throw std::invalid_argument("version must be one that this processor has, " + names + ", got '" + name +
                              "'");
}

template <typename Element>
std::vector<const char*> names_of_versions() {
  std::vector<const char*> names;
  for (const Version<Element>& version : versions<Element>()) names.push_back(version.name);
  return names;
}

// Uninitialised floats at an address that whole vectors can be read from.
class AlignedMemory {
 public:
  AlignedMemory() = default;
  AlignedMemory(const AlignedMemory&) = delete;
  AlignedMemory& operator=(const AlignedMemory&) = delete;
  ~AlignedMemory() { ::operator delete(data_, kAlignment); }

  float* at_least(Index size) {
    if (size > size_) {
      ::operator delete(data_, kAlignment);
      data_ = nullptr;
      size_ = 0;
      data_ = static_cast<float*>(::operator new(static_cast<std::size_t>(size) * sizeof(float), kAlignment));
      size_ = size;
    }
    return data_;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  float* data_ = nullptr;
  Index size_ = 0;
};

// One call: its tensors, and memory for the state of the online softmax and for every worker's scratch.
template <typename Element>
struct Attention {
  using View = BasicTensorView<Element>;

  const View &q, &k, &v;
  Element* const out;
  const Index pixels, longest;
  const int workers;
  float *maximum = nullptr, *sum = nullptr, *acc = nullptr, *scratch = nullptr;

  Attention(const View& q, const View& k, const View& v, Element* out, int threads)
      : q(q),
        k(k),
        v(v),
        out(out),
        pixels(q.batch * q.height * q.width),
        longest(std::max(q.height, q.width)),
        workers(count_workers(q.batch * (q.height + q.width), threads)) {}

  // Floats where the result cannot hold the unnormalised values of the columns in full precision.
  static constexpr bool kOwnAcc = !std::is_same_v<Element, float>;

  Index scratch_floats() const { return Scratch::words(longest, q.channels, v.channels); }

  Index floats() const {
    return 2 * padded(pixels) + (kOwnAcc ? padded(pixels * v.channels) : 0) + workers * scratch_floats();
  }

  void use(float* memory) {
    maximum = memory;
    sum = maximum + padded(pixels);
    acc = sum + padded(pixels);
    scratch = acc + (kOwnAcc ? padded(pixels * v.channels) : 0);
    if constexpr (!kOwnAcc) acc = out;
  }

  // Line i of a pass over the rows or the columns of every image, with line `next` to be prefetched.
  Line<Element> line(bool row, Index i, Index next) const {
    const Index lines = row ? q.height : q.width, b = i / lines, y = row ? i % lines : 0,
                x = row ? 0 : i % lines;
    const auto strip = [&](const View& view) -> Strip<Element> {
      const Index stride = row ? view.pixel_stride : view.row_stride,
                  other = row ? view.row_stride : view.pixel_stride;
      return {view.pixel(b, y, x), stride,
              (next / lines - b) * view.batch_stride + (next % lines - i % lines) * other};
    };
    const Index pixel = (b * q.height + y) * q.width + x, place = pixel * v.channels,
                step = row ? 1 : q.width;
    Line<Element> line{row ? q.width : q.height, q.channels, v.channels, strip(q), strip(k), strip(v), {}};
    line.state = {maximum + pixel, sum + pixel, acc + place, out + place, step, step * v.channels};
    return line;
  }

  // Lines per task of a pass over so many lines of such a length.
  Index per_task(Index length) const {
    const Index work = length * length * (q.channels + v.channels);
    return std::clamp<Index>(kTaskWork / std::max<Index>(work, 1), 1, kMostLinesPerTask);
  }

  void run(LineFunction<Element> attend) const {
    const Index column_step = per_task(q.height), row_step = per_task(q.width);
    const Index columns = q.batch * q.width, rows = q.batch * q.height;
    const Index column_tasks = (columns + column_step - 1) / column_step;
    const Index row_tasks = (rows + row_step - 1) / row_step;
    const auto attend_to = [&](bool row, Index lines, Index first, Index step, int worker) {
      const Scratch mine(scratch + worker * scratch_floats(), longest, q.channels, v.channels);
      const Index end = std::min(lines, first + step), after = first + workers * step;
      for (Index i = first; i < end; ++i) {
        const Index next = i + 1 < end ? i + 1 : after < lines ? after : i;
        attend(line(row, i, next), mine, row);
      }
    };
    std::atomic<Index> columns_left{column_tasks};
    // One parallel_for for both passes: its threads need not fall asleep in between.
    parallel_for(column_tasks + row_tasks, workers, [&](Index task, int worker) {
      if (task < column_tasks) {
        attend_to(false, columns, task * column_step, column_step, worker);
        columns_left.fetch_sub(1, std::memory_order_release);
        return;
      }
      // Tasks are handed out in order: every column is done, or under way in another thread.
      while (columns_left.load(std::memory_order_acquire) != 0) std::this_thread::yield();
      attend_to(true, rows, (task - column_tasks) * row_step, row_step, worker);
    });
  }
};

template <typename Element>
void attend_to_cross(const BasicTensorView<Element>& q, const BasicTensorView<Element>& k,
                     const BasicTensorView<Element>& v, Element* out, int threads, const char* version) {
  const LineFunction<Element> attend = find_version<Element>(version);
  Attention<Element> attention(q, k, v, out, threads);
  if (attention.pixels == 0 || v.channels == 0) return;
  // Fresh memory costs as much as the arithmetic: the system clears every page of it.
  thread_local AlignedMemory kept;
  AlignedMemory large;
  const Index floats = attention.floats();
  attention.use((floats <= kKeptFloats ? kept : large).at_least(floats));
  attention.run(attend);
}

}  // namespace

void criss_cross_attention(const TensorView& q, const TensorView& k, const TensorView& v, float* out,
                           int threads, const char* version) {
  attend_to_cross(q, k, v, out, threads, version);
}

void criss_cross_attention(const Bfloat16View& q, const Bfloat16View& k, const Bfloat16View& v, Bfloat16* out,
                           int threads, const char* version) {
  attend_to_cross(q, k, v, out, threads, version);
}

template <>
std::vector<const char*> attention_versions<float>() {
  return names_of_versions<float>();
}

template <>
std::vector<const char*> attention_versions<Bfloat16>() {
  return names_of_versions<Bfloat16>();
}

}  // namespace crowd
