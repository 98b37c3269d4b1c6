// Compiler extensions.
#pragma once

#define EDGEFC_INLINE static inline __attribute__((always_inline))

// Before a loop with a fixed count: unrolls it completely.
#if defined(__clang__)
#define EDGEFC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EDGEFC_UNROLL _Pragma("GCC unroll 16")
#endif
