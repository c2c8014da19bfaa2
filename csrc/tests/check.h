#pragma once

#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

// Checks that throw, so that a failure in any thread reaches main() through its future.
namespace crowd::test {

[[noreturn]] inline void fail(const std::string& complaint) { throw std::runtime_error(complaint); }

inline void check(bool holds, const std::string& complaint) {
  if (!holds) fail(complaint);
}

// Whether `got` is as close to `expected` as |a - b| <= tolerance (1 + |b|); not finite where it is not.
inline bool is_close(double got, double expected, double tolerance) {
  if (!std::isfinite(expected)) return !std::isfinite(got);
  return std::abs(got - expected) <= tolerance * (1 + std::abs(expected));
}

// Whether they are the same number or both NaN.
inline bool is_same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// That same(got[i], expected[i]) for all i.
template <typename Expected, typename Same>
void check_all(const std::vector<float>& got, const Expected& expected, const std::string& what,
               const Same& same) {
  check(got.size() == expected.size(), what + ": wrong size");
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (same(got[i], expected[i])) continue;
    fail(what + " at " + std::to_string(i) + ": got " + std::to_string(got[i]) + ", expected " +
         std::to_string(expected[i]));
  }
}

inline void check_close(const std::vector<float>& got, const std::vector<double>& expected, double tolerance,
                        const std::string& what) {
  check_all(got, expected, what, [=](double a, double b) { return is_close(a, b, tolerance); });
}

inline void check_same(const std::vector<float>& got, const std::vector<float>& expected,
                       const std::string& what) {
  check_all(got, expected, what, is_same);
}

}  // namespace crowd::test
