// The tables of the kernel of signs_avx512.h: for 16 inputs at a time, their sums with all combinations of signs, in 16
// bits.
//
// A plane is a batch row of 16-bit integers. 16 inputs of a plane have three tables of such integers: 64 entries for
// inputs 0 to 5, 32 for inputs 6 to 10 and 32 for inputs 11 to 15. Entry k is the sum of the inputs, where those whose
// bit in k is set are subtracted. With int8 activations a batch row is one plane. Otherwise it is two planes, high and
// low: u is rounded to (kBase high + low) / scale. Each 64 inputs have a scale, the largest that keeps all sums of both
// planes within 16 bits. The error is at most half a unit of sum|u| / kMost, so the nmse is below 64^2 / 12 / kMost^2 =
// 3e-13 for any inputs.
#pragma once

#include "prp/inputs_avx512.h"
#include "simd/words.h"

namespace edgefc::prp {
namespace {

constexpr int kTables16 = 128;                     // numbers in the tables of 16 inputs of a plane
constexpr int kBase = 1024;                        // low numbers are from -511 to 511: 64 of them stay below 2^15
constexpr float kMost = 3.35e7f;                   // of sum|kBase high + low|, so that 64 high numbers stay below 2^15
constexpr float kLeastSum = 1e-28f;                // of |u|, so that its scale is finite
constexpr std::int64_t kTableBytes = 1 << 18;      // of all tables of a block: a part of the second-level cache
constexpr int kRows = 32;                          // most batch rows of a chunk
constexpr int kGrain = 64;                         // inputs that have one scale

inline int planes(const Plan& plan) { return plan.int8 ? 1 : 2; }

// The number of words of a row of P whose inputs fit in one 16-bit sum: 8 * 32 * 127 < 2^15 with int8 activations.
inline int words_together(const Plan& plan) { return plan.int8 ? 8 : kGrain / 32; }

inline int sign_chunk(const Plan&) { return kRows; }

// A multiple of 8 words.
inline std::int64_t sign_columns(const Plan& plan, int rows) {
  const std::int64_t bytes_each = kTables16 * 2 / 16 * planes(plan) * rows;
  const std::int64_t most = kTableBytes / bytes_each / 256 * 256, all = (plan.in + 255) / 256 * 256;
  return most < all ? most : all;
}

// The layout of `prepared`. Per batch row: the sum of its inputs, its step, a scale for each kGrain inputs, its tables.
struct Prepared {
  double* totals;
  float *steps, *scales;
  std::int16_t* tables;
  std::int64_t scales_each, tables_each;

  Prepared(const Plan& plan, int rows, float* at) {
    const std::int64_t wide = sign_columns(plan, rows);
    scales_each = wide / kGrain;
    tables_each = wide / 16 * planes(plan) * kTables16;
    totals = reinterpret_cast<double*>(at);
    steps = at + 2 * kRows;
    scales = steps + kRows;
    tables = reinterpret_cast<std::int16_t*>(scales + (rows * scales_each + 15) / 16 * 16);
  }
};

inline std::size_t sign_floats(const Plan& plan, int rows) {
  const std::int64_t wide = sign_columns(plan, rows), scales = (rows * (wide / kGrain) + 15) / 16 * 16;
  return static_cast<std::size_t>(3 * kRows + scales + rows * (wide / 16) * planes(plan) * kTables16 / 2);
}

// A 16-bit number in both halves of each 32 bits.
inline __m512i doubled(__m512i a) {
  return _mm512_shuffle_epi8(a, _mm512_set4_epi32(0x0D0C0D0C, 0x09080908, 0x05040504, 0x01000100));
}

// Loads the stored values again, one number at a time. GCC would otherwise extract them from the vector.
inline void stored(const std::int32_t* numbers) { asm volatile("" : : "r"(numbers) : "memory"); }

// The 32 sums of 5 doubled inputs.
inline __m512i sums_of_5(const std::int32_t* doubled_inputs) {
  constexpr __mmask32 kSet[5] = {0xAAAAAAAA, 0xCCCCCCCC, 0xF0F0F0F0, 0xFF00FF00, 0xFFFF0000};
  const __m512i first = _mm512_set1_epi32(doubled_inputs[0]);
  __m512i sum = _mm512_mask_sub_epi16(first, kSet[0], _mm512_setzero_si512(), first);
  EDGEFC_UNROLL
  for (int i = 1; i < 5; ++i) {
    const __m512i input = _mm512_set1_epi32(doubled_inputs[i]);
    sum = _mm512_mask_sub_epi16(_mm512_add_epi16(sum, input), kSet[i], sum, input);
  }
  return sum;
}

// The tables of 16 inputs.
inline void write_tables(const std::int32_t* doubled_inputs, std::int16_t* to) {
  const __m512i five = sums_of_5(doubled_inputs), sixth = _mm512_set1_epi32(doubled_inputs[5]);
  _mm512_store_si512(to, _mm512_add_epi16(five, sixth));
  _mm512_store_si512(to + 32, _mm512_sub_epi16(five, sixth));
  _mm512_store_si512(to + 64, sums_of_5(doubled_inputs + 6));
  _mm512_store_si512(to + 96, sums_of_5(doubled_inputs + 11));
}

// 64 inputs of a row of int8 activations.
inline void write_whole(const Inputs& u, std::int64_t first, float step, std::int16_t* to) {
  alignas(64) std::int32_t whole[kGrain];
  for (int i = 0; i < kGrain; i += 16) _mm512_store_si512(whole + i, doubled(rounded(u(first + i), step)));
  stored(whole);
  for (int i = 0; i < kGrain; i += 16, to += kTables16) write_tables(whole + i, to);
}

// 64 inputs in two planes. Returns the factor for their sums, or a negative number if no scale is possible.
inline float write_split(const Inputs& u, std::int64_t first, std::int16_t* to) {
  alignas(64) std::int32_t high[kGrain], low[kGrain];
  __m512 values[kGrain / 16], sizes = _mm512_setzero_ps();
  for (int i = 0; i < kGrain / 16; ++i) {
    values[i] = u(first + 16 * i);
    sizes = _mm512_add_ps(sizes, _mm512_abs_ps(values[i]));
  }
  const float sum = _mm512_reduce_add_ps(sizes);
  if (!(sum <= kLargestFloat) || (sum < kLeastSum && sum != 0)) return -1;
  const __m512 scale = _mm512_set1_ps(sum == 0 ? 0 : kMost / sum);
  for (int i = 0; i < kGrain / 16; ++i) {
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(values[i], scale));
    const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(kBase / 2)), 10);
    const __m512i rest = _mm512_sub_epi32(q, _mm512_slli_epi32(upper, 10));
    _mm512_store_si512(high + 16 * i, doubled(upper));
    _mm512_store_si512(low + 16 * i, doubled(_mm512_max_epi32(rest, _mm512_set1_epi32(1 - kBase / 2))));
  }
  stored(high);
  stored(low);
  for (int i = 0; i < kGrain; i += 16, to += 2 * kTables16) {
    write_tables(high + i, to);
    write_tables(low + i, to + kTables16);
  }
  return sum / kMost;
}

// The sum of a block of inputs.
inline double total(const Plan& plan, const Inputs& u, Columns block, float step) {
  double sum = 0;
  for (std::int64_t i = block.first; i < block.last; i += 16) {
    const __m512 values = plan.int8 ? _mm512_mul_ps(_mm512_cvtepi32_ps(rounded(u(i), step)), _mm512_set1_ps(step)) : u(i);
    alignas(64) float each[16];
    _mm512_store_ps(each, values);
    for (const float value : each) sum += value;
  }
  return sum;
}

inline bool sign_prepare(const Plan& plan, const float* x, int rows, Columns block, Columns slice, const float* in_scale,
                         float* prepared) {
  const Prepared parts(plan, rows, prepared);
  const float root = static_cast<float>(1 / __builtin_sqrt(static_cast<double>(plan.in)));
  for (int row = 0; row < rows; ++row) {
    const Inputs u{x + row * plan.in, in_scale, plan.in, _mm512_set1_ps(root)};
    const float step = !plan.int8 ? 1 : block.first == 0 ? step_of(u) : parts.steps[row];
    const std::int64_t last = (slice.last + kGrain - 1) / kGrain * kGrain, before = (slice.first - block.first) / kGrain;
    std::int16_t* to = parts.tables + row * parts.tables_each + before * 4 * planes(plan) * kTables16;
    float* scale = parts.scales + row * parts.scales_each + before;
    for (std::int64_t i = slice.first; i < last; i += kGrain, to += 4 * planes(plan) * kTables16) {
      if (plan.int8) {
        write_whole(u, i, step, to);
      } else if ((*scale++ = write_split(u, i, to)) < 0) {
        return false;
      }
    }
    if (slice.first != block.first) continue;
    if (block.first == 0) {
      parts.totals[row] = 0;
      parts.steps[row] = step;
    }
    if (plan.levels[0] != -plan.levels[1]) parts.totals[row] += total(plan, u, block, step);
  }
  return true;
}

}  // namespace
}  // namespace edgefc::prp
