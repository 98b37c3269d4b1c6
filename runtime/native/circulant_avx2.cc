// The circulant kernel for AVX2 and FMA. The pragma stands behind the standard headers, so that none of their inline
// code is compiled for a processor that may not be there.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cstddef>
#include <utility>

#include "circulant_plan.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace edgefc {
namespace {

#define EDGEFC_FUSED(M, P)                                                                                    \
  static inline __attribute__((always_inline)) M mul_add(M a, M b, M c) { return P##_fmadd_ps(a, b, c); }      \
  static inline __attribute__((always_inline)) M mul_sub(M a, M b, M c) { return P##_fmsub_ps(a, b, c); }      \
  static inline __attribute__((always_inline)) M neg_mul_add(M a, M b, M c) { return P##_fnmadd_ps(a, b, c); }

EDGEFC_FUSED(__m128, _mm)
EDGEFC_FUSED(__m256, _mm256)

template <class V>
static inline __attribute__((always_inline)) V fill(float s);

#include "circulant_steps.h"

#include "circulant_lanes.h"

}  // namespace

const CirculantEngine kCirculantAvx2[] = {EDGEFC_ENGINE(8), EDGEFC_ENGINE(4), {0, nullptr, nullptr, nullptr}};

}  // namespace edgefc

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
