#include "crowd/processor.h"

#include "multiversion.h"

#if CROWD_X86_VERSIONS
#include <cpuid.h>
#endif

namespace crowd {

bool has_int8_dot() {
#if CROWD_X86_VERSIONS
  // What the compiler knows by name also says whether the system saves the registers; older ones do not know
  // VNNI's names, so its bits are read: Intel's manual, volume 2A, CPUID, leaf 7.
  constexpr unsigned kAvx512Vnni = 1u << 11, kAvxVnni = 1u << 4;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__builtin_cpu_supports("avx512f") && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 &&
      (ecx & kAvx512Vnni) != 0) {
    return true;
  }
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
         (eax & kAvxVnni) != 0;
#else
  return false;
#endif
}

}  // namespace crowd
