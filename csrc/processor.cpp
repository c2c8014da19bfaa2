#include "crowd/processor.h"

#include "multiversion.h"

#if CROWD_X86_VERSIONS
#include <cpuid.h>
#elif defined(_M_X64) && !defined(__clang__)
#include <intrin.h>
#endif

namespace crowd {
namespace {

// Intel's manual, volume 2A, CPUID, leaf 7: in ecx of subleaf 0, and in eax of subleaf 1.
[[maybe_unused]] constexpr unsigned kAvx512Vnni = 1u << 11, kAvxVnni = 1u << 4;

}  // namespace

#if CROWD_X86_VERSIONS

bool has_int8_dot() {
  // What the compiler knows by name also says whether the system saves the registers; older ones do not know
  // VNNI's names, so its bits are read.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__builtin_cpu_supports("avx512f") && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 &&
      (ecx & kAvx512Vnni) != 0) {
    return true;
  }
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
         (eax & kAvxVnni) != 0;
}

#elif defined(_M_X64) && !defined(__clang__)

// MSVC has no names. Nobody has tried this on Windows yet.
bool has_int8_dot() {
  constexpr unsigned kOsXsave = 1u << 27, kAvx2 = 1u << 5, kAvx512F = 1u << 16;
  // Bits of XCR0 for the registers that the system saves: volume 1, chapter 13.
  constexpr unsigned kYmm = 0x06, kZmm = 0xe6;
  // eax, ebx, ecx, edx.
  int first[4], features[4], extended[4], more[4];
  const auto has = [](int bits, unsigned all) { return (static_cast<unsigned>(bits) & all) == all; };
  __cpuid(first, 0);
  __cpuid(features, 1);
  if (first[0] < 7 || !has(features[2], kOsXsave)) return false;
  const int saved = static_cast<int>(_xgetbv(0));
  __cpuidex(extended, 7, 0);
  if (has(saved, kZmm) && has(extended[1], kAvx512F) && has(extended[2], kAvx512Vnni)) return true;
  if (extended[0] < 1 || !has(saved, kYmm) || !has(extended[1], kAvx2)) return false;
  __cpuidex(more, 7, 1);
  return has(more[0], kAvxVnni);
}

#else

bool has_int8_dot() { return false; }

#endif

}  // namespace crowd
