// The functions of edgefc/layers/common/activations.py by their numbers, applied to floats in place.
//
// They are plain loops without branches or calls, which the compiler vectorises for the file that includes them. Only
// sin calls the C library for each value. Relative errors are a few units in the last place, also near zero and in the
// tails. NaN stays NaN, and infinity has the same result as in the float64 formula. The polynomials were fitted to
// these functions in float64, weighted for relative error.
#pragma once

#include <cstdint>

namespace edgefc {
namespace {

enum Activation : int {
  kIdentity, kRelu, kGelu, kGeluTanh, kSilu, kTanh, kSigmoid, kSoftplus, kSin, kActivations
};  // in the order of the list in that file

// e^v for v <= 0 as scale * (1 + rest), scale a power of two; scale is 0 below e^-87.
struct Exponential {
  float scale, rest;
  float value() const { return scale + scale * rest; }
};

inline Exponential exponential(float v) {
  constexpr float kMagic = 12582912;  // 1.5 * 2^23: a float of this size has no fractional bits
  const float bounded = v < -87.0f ? -87.0f : v;
  const float shifted = bounded * 1.44269504f + kMagic, n = shifted - kMagic;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first of few bits
  std::int32_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<std::int32_t>((static_cast<std::uint32_t>(bits) - 0x4B400000u + 127u) << 23);
  float scale;
  __builtin_memcpy(&scale, &bits, sizeof scale);
  float p = 1.388886744e-3f;
  p = p * r + 8.370511717e-3f;
  p = p * r + 4.166717497e-2f;
  p = p * r + 1.666649302e-1f;
  p = p * r + 4.999999789e-1f;
  return {v < -87.0f ? 0.0f : scale, r + r * (r * p)};
}

inline float absolute(float x) { return x < 0 ? -x : x; }

inline float sigmoid(float x) {
  const float e = exponential(-absolute(x)).value();
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

// The distribution function of N(0, 1). Its tail is e^(-x^2 / 2) times a polynomial in 1 / (1 + 0.3 |x|).
inline float below(float x) {
  const float a = absolute(x), t = 1.0f / (1.0f + 0.3f * a);
  float p = 3.837840330e-2f;
  p = p * t - 1.691666349e-1f;
  p = p * t + 2.286610957e-1f;
  p = p * t - 7.650755617e-2f;
  p = p * t + 1.425362089e-1f;
  p = p * t + 9.468325863e-2f;
  p = p * t + 1.219204026e-1f;
  p = p * t + 1.194876815e-1f;
  p = p * t + 7.169253586e-6f;
  const float tail = p * exponential(-0.5f * a * a).value();
  return x < 0 ? tail : 1.0f - tail;
}

inline float hyperbolic_tangent(float x) {
  const Exponential e = exponential(-2.0f * absolute(x));
  const float less = e.scale * e.rest + (e.scale - 1.0f);  // e^(-2 |x|) - 1, exact to its own rounding near zero
  const float size = -less / (2.0f + less);
  return x < 0 ? -size : size;
}

// max(x, 0) + log(1 + e^-|x|), the logarithm as 2 artanh(e / (2 + e)).
inline float softplus(float x) {
  const float e = exponential(-absolute(x)).value(), s = e / (2.0f + e), q = s * s;
  float p = 1.408916300e-1f;
  p = p * q + 1.398030237e-1f;
  p = p * q + 2.001245507e-1f;
  p = p * q + 3.333315734e-1f;
  return (x < 0 ? 0.0f : x) + 2.0f * (s + s * (q * p));
}

template <class F>
inline void each(float* values, std::int64_t count, F f) {
  for (std::int64_t i = 0; i < count; ++i) values[i] = f(values[i]);
}

inline void activate(int code, float* values, std::int64_t count) {
  switch (code) {
    case kRelu: return each(values, count, [](float x) { return x < 0 ? 0.0f : x; });
    case kGelu: return each(values, count, [](float x) { return x * below(x); });
    case kGeluTanh:
      return each(values, count, [](float x) { return x * sigmoid(1.595769122f * (x + 0.044715f * x * x * x)); });
    case kSilu: return each(values, count, [](float x) { return x * sigmoid(x); });
    case kTanh: return each(values, count, [](float x) { return hyperbolic_tangent(x); });
    case kSigmoid: return each(values, count, [](float x) { return sigmoid(x); });
    case kSoftplus: return each(values, count, [](float x) { return softplus(x); });
    case kSin: return each(values, count, [](float x) { return __builtin_sinf(x); });
    default: return;
  }
}

}  // namespace
}  // namespace edgefc
