#pragma once

// Compiling one function for several generations of x86-64. Elsewhere, and with compilers or C libraries
// that cannot, there is one version: the one for the processor that the whole library is compiled for.

#if defined(__GNUC__)
// Inlined into its caller, and so compiled for the processor that the caller is compiled for.
#define CROWD_INLINE inline __attribute__((always_inline))
#else
#define CROWD_INLINE inline
#endif

#if defined(__x86_64__) && defined(__GNUC__)
// Versions written with intrinsics, one per source file, of which the caller chooses.
#define CROWD_X86_VERSIONS 1
#define CROWD_TARGET(features) __attribute__((target(features)))
#else
#define CROWD_X86_VERSIONS 0
#endif

// Clang knows AVX-512-BF16 from version 9 on, which Apple calls 12, and GCC from 10 on.
#if CROWD_X86_VERSIONS && (__clang_major__ >= 12 || (!defined(__clang__) && __GNUC__ >= 10))
#define CROWD_X86_BF16 1
#else
#define CROWD_X86_BF16 0
#endif

// Not under ThreadSanitizer: the choice is made before it is ready to look on.
// GCC knows these names from version 12 on.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && \
    !defined(__clang__) && !defined(__SANITIZE_THREAD__)
// All versions at once; the best is chosen when the module is loaded.
#define CROWD_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CROWD_MULTIVERSION
#endif
