// Prints the GFLOP/s of multiply-adds in registers, on all threads: no kernel on this CPU can do more in
// float32.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

// Enough independent chains to hide the latency of an FMA on any CPU, few enough for its registers.
constexpr int kLanes = 16, kChains = 12;
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));

float run(long rounds) {
  Vector sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = Vector{} + static_cast<float>(i);
  const Vector scale = Vector{} + 0.999f, shift = Vector{} + 0.001f;
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * scale + shift;
  }
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += sums[i][0];
  return total;
}

}  // namespace

int main(int count, char** arguments) {
  const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
  const long rounds = 10'000'000;
  std::vector<float> totals(threads);
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> pool;
  for (int i = 0; i < threads; ++i) pool.emplace_back([&, i] { totals[i] = run(rounds); });
  for (auto& thread : pool) thread.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  // Reading the sum keeps the compiler from leaving the loop out.
  std::fprintf(stderr, "%g\n", totals[0]);
  std::printf("%g\n", 2.0 * kLanes * kChains * rounds * threads / seconds.count() / 1e9);
}
