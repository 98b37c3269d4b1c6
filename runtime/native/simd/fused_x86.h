// Multiply-adds with one rounding on x86, for vectors of any width; included by a simd/CPU.h.
#pragma once

#include "simd/compiler.h"

// M, a type of vectors, has functions of the prefix P.
#define EDGEFC_FUSED(M, P)                                                             \
  EDGEFC_INLINE M mul_add(M a, M b, M c) { return P##_fmadd_ps(a, b, c); }             \
  EDGEFC_INLINE M mul_sub(M a, M b, M c) { return P##_fmsub_ps(a, b, c); }             \
  EDGEFC_INLINE M neg_mul_add(M a, M b, M c) { return P##_fnmadd_ps(a, b, c); }
