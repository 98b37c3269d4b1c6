// What is asked of the compiler beyond the language.
#pragma once

#define EDGEFC_INLINE static inline __attribute__((always_inline))

// In front of a loop of a fixed count: it becomes as many copies of its body.
#if defined(__clang__)
#define EDGEFC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EDGEFC_UNROLL _Pragma("GCC unroll 16")
#endif
