// The scaled inputs of PRP in vectors of AVX-512, for kernels that compute with integers.
#pragma once

#include "simd/avx512.h"
#include "prp/prp.h"

namespace edgefc::prp {
namespace {

// The first lanes of 16.
inline __mmask16 lanes_there(std::int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFF : count > 0 ? (1 << count) - 1 : 0);
}

// The scaled inputs of a batch row, 16 at a time; zeros after the end.
struct Inputs {
  const float *x, *in_scale;
  std::int64_t count;
  __m512 root;

  __m512 operator()(std::int64_t i) const {
    const __mmask16 there = lanes_there(count - i);
    return _mm512_mul_ps(_mm512_maskz_loadu_ps(there, x + i),
                         _mm512_mul_ps(_mm512_maskz_loadu_ps(there, in_scale + i), root));
  }
};

// The largest |u| of the row / 127; NaN if any u is not finite.
inline float step_of(const Inputs& u) {
  __m512 largest = _mm512_setzero_ps();
  __mmask16 wrong = 0;
  const __m512 most = _mm512_set1_ps(kLargestFloat);
  for (std::int64_t i = 0; i < u.count; i += 16) {
    const __m512 size = _mm512_abs_ps(u(i));
    wrong = static_cast<__mmask16>(wrong | _mm512_cmp_ps_mask(size, most, _CMP_NLE_UQ));
    largest = _mm512_max_ps(largest, size);
  }
  return wrong ? kNotANumber : _mm512_reduce_max_ps(largest) / 127;
}

// 16 inputs as multiples of the step of the row; zeros if the row has no step.
inline __m512i rounded(__m512 u, float step) {
  const auto known = static_cast<__mmask16>(step * 127 >= kSmallestRange ? 0xFFFF : 0);
  return _mm512_maskz_cvtps_epi32(known, _mm512_mul_ps(u, _mm512_set1_ps(1 / step)));
}

}  // namespace
}  // namespace edgefc::prp
