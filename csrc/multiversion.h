#pragma once

// Compiling one function for several generations of x86-64. Elsewhere, and with compilers or C libraries
// that cannot, there is one version: the one for the processor that the whole library is compiled for.

#if defined(__GNUC__)
// Inlined into its caller, and so compiled for the processor that the caller is compiled for.
#define CROWD_INLINE inline __attribute__((always_inline))
#else
#define CROWD_INLINE inline
#endif

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define CROWD_X86_VERSIONS 1
// x86-64-v4 has AVX-512, x86-64-v3 AVX2 and FMA; left alone, GCC prefers half-width vectors in the first.
#define CROWD_X86_V4 __attribute__((target("arch=x86-64-v4,prefer-vector-width=512")))
#define CROWD_X86_V3 __attribute__((target("arch=x86-64-v3")))
// All versions at once; the best is chosen when the module is loaded.
#define CROWD_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CROWD_X86_VERSIONS 0
#define CROWD_MULTIVERSION
#endif
