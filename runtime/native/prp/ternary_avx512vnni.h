// Codebooks of 8 bits with the levels -s, 0, s in runs, with AVX-512 VNNI: products of bytes, in exact arithmetic.
//
// A vector of words is 64 bytes, with 4 codes for each of 16 rows of P. Three operations convert them to 1 - t, with t
// = -1, 0, 1. One operation for each plane of the inputs adds 4 products to each row. With int8 activations a batch row
// is one plane of bytes. Otherwise it is three planes: u is rounded to q / scale, with a scale for each 256 inputs, and
// q = d0 + 256 d1 + 65536 d2 with digits from -128 to 127. The error is at most half a unit of max|u| / kMostDigits, so
// the nmse is below 256 / 12 / kMostDigits^2 = 3e-13 for any inputs.
#pragma once

#include "prp/inputs_avx512.h"
#include "simd/words.h"

namespace edgefc::prp {
namespace {

using I = __m512i;
using F = __m512;

constexpr float kMostDigits = 8.355e6f;     // of |q|: below 127 + 127 * 256 + 127 * 65536
constexpr float kLeastLargest = 1e-30f;     // of |u|, so that its scale is finite
constexpr int kPart = 256, kPartWords = 64;  // inputs that have one scale
constexpr int kTernaryRows = 64;             // most batch rows of a chunk

inline int ternary_chunk(const Plan&) { return kTernaryRows; }
inline std::int64_t ternary_columns(const Plan& plan, int) { return plan.in; }

// The layout of `prepared`, all in 32 bits: for each batch row a step (1 without int8 activations), then for each part
// of the inputs its scale, the negative sum of each plane, and for each word 4 inputs of each plane.
template <int Planes>
struct Parts {
  std::int64_t count, each = 1 + Planes + kPartWords * Planes;

  explicit Parts(const Plan& plan) : count((plan.in + kPart - 1) / kPart) {}
  std::int64_t row() const { return 1 + count * each; }
};

inline std::size_t ternary_floats(const Plan& plan, int rows) {
  return static_cast<std::size_t>(rows * (plan.int8 ? Parts<1>(plan).row() : Parts<3>(plan).row()));
}

// Planes of kPart integers, after their negative sums. The absolute values are below 2^23.
template <int Planes>
inline void write_digits(std::int32_t* whole, std::int32_t* to) {
  auto* bytes = reinterpret_cast<std::int8_t*>(to + Planes);
  for (int p = 0; p < Planes; ++p) {
    I sum = _mm512_setzero_si512();
    for (int i = 0; i < kPart; i += 16) {
      const I number = _mm512_load_si512(whole + i);
      const I digit = _mm512_srai_epi32(_mm512_slli_epi32(number, 24), 24);
      sum = _mm512_add_epi32(sum, digit);
      _mm512_store_si512(whole + i, _mm512_srai_epi32(_mm512_sub_epi32(number, digit), 8));
      alignas(16) std::int8_t four[16];
      _mm_store_si128(reinterpret_cast<__m128i*>(four), _mm512_cvtepi32_epi8(digit));
      for (int w = 0; w < 4; ++w) __builtin_memcpy(bytes + ((i / 4 + w) * Planes + p) * 4, four + 4 * w, 4);
    }
    to[p] = -_mm512_reduce_add_epi32(sum);
  }
}

template <int Planes>
bool ternary_row(const Plan& plan, const Inputs& u, float* to) {
  const Parts<Planes> parts(plan);
  const float step = to[0] = Planes == 1 ? step_of(u) : 1;
  ++to;
  for (std::int64_t first = 0; first < plan.in; first += kPart, to += parts.each) {
    alignas(64) std::int32_t whole[kPart];
    *to = 1;
    if constexpr (Planes == 1) {
      for (int i = 0; i < kPart; i += 16) _mm512_store_si512(whole + i, rounded(u(first + i), step));
    } else {
      F sizes = _mm512_setzero_ps();
      __mmask16 wrong = 0;
      for (int i = 0; i < kPart; i += 16) {
        const F size = _mm512_abs_ps(u(first + i));
        wrong = static_cast<__mmask16>(wrong | _mm512_cmp_ps_mask(size, _mm512_set1_ps(kLargestFloat), _CMP_NLE_UQ));
        sizes = _mm512_max_ps(sizes, size);
      }
      const float largest = _mm512_reduce_max_ps(sizes);
      if (wrong || (largest < kLeastLargest && largest != 0)) return false;
      *to = largest / kMostDigits;
      const F scale = _mm512_set1_ps(largest == 0 ? 0 : kMostDigits / largest);
      for (int i = 0; i < kPart; i += 16) {
        _mm512_store_si512(whole + i, _mm512_cvtps_epi32(_mm512_mul_ps(u(first + i), scale)));
      }
    }
    write_digits<Planes>(whole, reinterpret_cast<std::int32_t*>(to + 1));
  }
  return true;
}

inline bool ternary_prepare(const Plan& plan, const float* x, int rows, Columns, Columns, const float* in_scale,
                            float* prepared) {
  const F root = _mm512_set1_ps(static_cast<float>(1 / __builtin_sqrt(static_cast<double>(plan.in))));
  for (int row = 0; row < rows; ++row) {
    const Inputs u{x + row * plan.in, in_scale, plan.in, root};
    if (plan.int8) {
      ternary_row<1>(plan, u, prepared + row * Parts<1>(plan).row());
    } else if (!ternary_row<3>(plan, u, prepared + row * Parts<3>(plan).row())) {
      return false;
    }
  }
  return true;
}

// Converts bytes of codes to 1 - t. After an addition, codes from thresholds[1] on and then those below thresholds[0]
// have the smallest of the 256 values. Bit 7 distinguishes both.
struct Trits {
  const I shift, limit, two = _mm512_set1_epi8(2), one = _mm512_set1_epi8(1);

  explicit Trits(const Plan& plan)
      : shift(_mm512_set1_epi8(static_cast<char>(256 - plan.thresholds[1]))),
        limit(_mm512_set1_epi8(static_cast<char>(256 - plan.thresholds[1] + plan.thresholds[0]))) {}
  I operator()(I codes) const {
    const __mmask64 some = _mm512_cmplt_epu8_mask(_mm512_add_epi8(codes, shift), limit);
    return _mm512_mask_shuffle_epi8(one, some, two, codes);
  }
};

template <int Planes, int V>
inline void start_sums(const float* part, I (&sums)[Planes][V]) {
  for (int p = 0; p < Planes; ++p) {
    std::int32_t first;
    __builtin_memcpy(&first, part + 1 + p, 4);
    for (int v = 0; v < V; ++v) sums[p][v] = _mm512_set1_epi32(first);
  }
}

// The 4 inputs of each plane times the trits of V vectors of rows.
template <int Planes, int V>
inline void multiply_add(const float* inputs, const I (&trits)[V], I (&sums)[Planes][V]) {
  EDGEFC_UNROLL
  for (int p = 0; p < Planes; ++p) {
    const I four = _mm512_castps_si512(_mm512_set1_ps(inputs[p]));
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) sums[p][v] = _mm512_dpbusd_epi32(sums[p][v], trits[v], four);
  }
}

template <int Planes, int V>
inline void end_sums(const float* part, const I (&sums)[Planes][V], F (&results)[V]) {
  float scale = *part;
  for (int p = 0; p < Planes; ++p, scale *= 256) {
    for (int v = 0; v < V; ++v) {
      results[v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[p][v]), _mm512_set1_ps(scale), results[v]);
    }
  }
}

template <int V>
inline void ternary_finish(const Plan& plan, float step, const F (&sums)[V], std::int64_t row, const float* out_scale,
                           const float* bias, float* y) {
  const F factor = _mm512_set1_ps(plan.class_levels[0] * step);
  for (int v = 0; v < V; ++v, row += 16) {
    const __mmask16 there = lanes_there(plan.out - row);
    const F scale = _mm512_maskz_loadu_ps(there, out_scale + row), add = _mm512_maskz_loadu_ps(there, bias + row);
    _mm512_mask_storeu_ps(y + row, there, _mm512_fmadd_ps(_mm512_mul_ps(sums[v], factor), scale, add));
  }
}

template <int Planes, int V>
void ternary_band(const Plan& plan, const float* prepared, int rows, std::int64_t row, const float* out_scale,
                  const float* bias, float* y) {
  const Parts<Planes> parts(plan);
  const Trits trits(plan);
  Words<V> words(plan.keys, row);
  alignas(64) F results[kTernaryRows][V];
  for (int b = 0; b < rows; ++b) {
    for (auto& each : results[b]) each = _mm512_setzero_ps();
  }
  for (std::int64_t part = 0; part < parts.count; ++part) {
    const float* at = prepared + 1 + part * parts.each;
    alignas(64) I tile[kPartWords][V];
    const std::int64_t left = (plan.in - part * kPart + 3) / 4;
    const int count = left < kPartWords ? static_cast<int>(left) : kPartWords;
    I sums[Planes][V];
    start_sums<Planes, V>(at, sums);
    for (int w = 0; w < count; ++w) {
      I h[V];
      words.next(h);
      for (auto& each : h) each = trits(each);
      if (rows > 1) {
        for (int v = 0; v < V; ++v) tile[w][v] = h[v];
      }
      multiply_add<Planes, V>(at + 1 + Planes + w * Planes, h, sums);
    }
    end_sums<Planes, V>(at, sums, results[0]);
    for (int b = 1; b < rows; ++b) {
      const float* from = at + b * parts.row();
      start_sums<Planes, V>(from, sums);
      for (int w = 0; w < count; ++w) multiply_add<Planes, V>(from + 1 + Planes + w * Planes, tile[w], sums);
      end_sums<Planes, V>(from, sums, results[b]);
    }
  }
  for (int b = 0; b < rows; ++b) {
    ternary_finish<V>(plan, prepared[b * parts.row()], results[b], row, out_scale, bias, y + b * plan.out);
  }
}

constexpr int kTernaryVectors = 4;

inline std::int64_t ternary_band_rows(const Plan&, int) { return 16 * kTernaryVectors; }

inline void ternary_bands(const Plan& plan, const float* prepared, int rows, Columns, std::int64_t first,
                          std::int64_t last, const float* out_scale, const float* bias, float* y) {
  for (std::int64_t row = first; row < last; row += 16 * kTernaryVectors) {
    if (plan.int8) {
      ternary_band<1, kTernaryVectors>(plan, prepared, rows, row, out_scale, bias, y);
    } else {
      ternary_band<3, kTernaryVectors>(plan, prepared, rows, row, out_scale, bias, y);
    }
  }
}

inline bool takes_ternary(const Plan& plan) {
  const float* level = plan.class_levels;
  return plan.classes == 3 && level[1] == 0 && level[0] == -level[2] && plan.thresholds[0] <= 128 &&
         plan.thresholds[1] >= 128;
}

}  // namespace
}  // namespace edgefc::prp
