// Codes of 1 bit with AVX-512 BW: looks up 16-bit sums for 32 rows of P at once, in exact arithmetic.
//
// Two vectors of words (rows r to r + 15, and r + 16 to r + 31) are converted to two vectors of halves: the low 16 bits
// of all 32 rows, and the high 16 bits, with even lanes from the first vector. A half consists of three indices: its
// low 6 bits, the next 5 and the last 5. Per 1024 weights: 19 operations for the halves, 4 shifts, and for each plane 6
// look-ups and 6 additions.
#pragma once

#include "prp/tables_avx512.h"

namespace edgefc::prp {
namespace {

using I = __m512i;
using F = __m512;

// The words of V pairs of vectors of rows, as halves.
template <int V>
struct Halves {
  Start rows[2 * V];
  I column, even, odd;

  Halves(const Plan& plan, std::int64_t row, std::int64_t word) {
    for (int v = 0; v < 2 * V; ++v) rows[v] = Start(plan.keys, row + 16 * v);
    column = Lanes::words(static_cast<std::uint32_t>(word) * kStride);
    // Low 16 bits of row i: lane 2 i from the first vector, lane 2 i + 1 from the second, whose lanes have indices from
    // 32.
    even = _mm512_add_epi32(_mm512_set1_epi32(32 << 16), _mm512_mullo_epi32(Lanes::count(0), _mm512_set1_epi32(0x20002)));
    odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
  }
  void of(int v, I column_now, I& low, I& high) const {
    const I a = unfinished(Lanes::add(rows[2 * v].counter, column_now), rows[2 * v].twist);
    const I b = unfinished(Lanes::add(rows[2 * v + 1].counter, column_now), rows[2 * v + 1].twist);
    high = _mm512_permutex2var_epi16(a, odd, b);
    low = _mm512_xor_si512(_mm512_permutex2var_epi16(a, even, b), high);
  }
  void forward() { column = Lanes::add(column, Lanes::words(kStride)); }
};

// The values that one index looks up: both planes of a row, the plane of one row, or the planes of two rows.
enum class Look { kSplit, kOne, kTwo };

template <Look L>
constexpr int kPlanes = L == Look::kOne ? 1 : 2;
template <Look L>
constexpr int kOutputs = L == Look::kTwo ? 2 : 1;  // batch rows

// Widens 16-bit sums to 32 bits, scales them and adds them to `sums`: [output][vector of rows].
template <Look L, int V>
inline void widen(const I (&narrow)[V][kPlanes<L>], float scale, F (&sums)[kOutputs<L>][2 * V]) {
  const I lower = _mm512_set1_epi32(1), upper = _mm512_set1_epi32(1 << 16);  // the even lanes, the odd lanes
  EDGEFC_UNROLL
  for (int v = 0; v < V; ++v) {
    EDGEFC_UNROLL
    for (int side = 0; side < 2; ++side) {
      const I one = side == 0 ? lower : upper;
      if constexpr (L == Look::kSplit) {
        const I whole = _mm512_add_epi32(_mm512_madd_epi16(narrow[v][0], _mm512_slli_epi32(one, 10)),
                                         _mm512_madd_epi16(narrow[v][1], one));
        static_assert(kBase == 1 << 10, "the shift above");
        F& sum = sums[0][2 * v + side];
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), _mm512_set1_ps(scale), sum);
      } else {
        EDGEFC_UNROLL
        for (int p = 0; p < kPlanes<L>; ++p) {
          F& sum = sums[p][2 * v + side];
          sum = _mm512_add_ps(sum, _mm512_cvtepi32_ps(_mm512_madd_epi16(narrow[v][p], one)));
        }
      }
    }
  }
}

// The tables of 16 inputs, for each plane.
template <Look L>
struct Tables {
  const std::int16_t* at[kPlanes<L>];

  Tables(const Prepared& parts, int row) {
    at[0] = parts.tables + row * parts.tables_each;
    if (L == Look::kSplit) at[1] = at[0] + kTables16;
    if (L == Look::kTwo) at[1] = at[0] + parts.tables_each;
  }
  void forward() {
    for (auto& each : at) each += L == Look::kSplit ? 2 * kTables16 : kTables16;
  }
};

// Keeps the order of additions to `sum`, with one register each. GCC would otherwise look up many values first and
// spill.
inline void keep_order(I& sum) { asm("" : "+v"(sum)); }

// One of the three indices of a half.
template <int Which, Look L, int V>
inline void look(const Tables<L>& tables, const I (&index)[V], I (&narrow)[V][kPlanes<L>]) {
  EDGEFC_UNROLL
  for (int p = 0; p < kPlanes<L>; ++p) {
    const I first = _mm512_load_si512(tables.at[p] + (Which == 0 ? 0 : 32 + 32 * Which));
    const I second = _mm512_load_si512(tables.at[p] + 32);
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) {
      const I found = Which == 0 ? _mm512_permutex2var_epi16(first, index[v], second)
                                 : _mm512_permutexvar_epi16(index[v], first);
      narrow[v][p] = _mm512_add_epi16(narrow[v][p], found);
      keep_order(narrow[v][p]);
    }
  }
}

template <int Places, int V>
inline void shift(I (&index)[V]) {
  EDGEFC_UNROLL
  for (int v = 0; v < V; ++v) index[v] = _mm512_srli_epi16(index[v], Places);
}

// The sums of one batch row, directly from the words. The next words are computed between the look-ups of the current
// ones, so that the processor can execute both in parallel.
template <Look L, int V>
inline void sum_words(Halves<V>& halves, const Prepared& parts, std::int64_t words, int together, F (&sums)[1][2 * V]) {
  Tables<L> tables(parts, 0);
  const float* scale = parts.scales;
  I low[V], high[V];
  for (int v = 0; v < V; ++v) halves.of(v, halves.column, low[v], high[v]);
  for (std::int64_t word = 0; word < words; ++scale) {
    I narrow[V][kPlanes<L>];
    for (auto& each : narrow) {
      for (auto& plane : each) plane = _mm512_setzero_si512();
    }
    const std::int64_t end = word + together < words ? word + together : words;
    for (; word < end; ++word) {
      halves.forward();
      I next_low[V], next_high[V];
      const auto make = [&](int third) __attribute__((always_inline)) {
        EDGEFC_UNROLL
        for (int v = 0; v < V; ++v) {
          if (6 * v / V == third) halves.of(v, halves.column, next_low[v], next_high[v]);
        }
      };
      make(0);
      look<0, L, V>(tables, low, narrow);
      shift<6>(low);
      make(1);
      look<1, L, V>(tables, low, narrow);
      shift<5>(low);
      make(2);
      look<2, L, V>(tables, low, narrow);
      tables.forward();
      make(3);
      look<0, L, V>(tables, high, narrow);
      shift<6>(high);
      make(4);
      look<1, L, V>(tables, high, narrow);
      shift<5>(high);
      make(5);
      look<2, L, V>(tables, high, narrow);
      tables.forward();
      EDGEFC_UNROLL
      for (int v = 0; v < V; ++v) low[v] = next_low[v], high[v] = next_high[v];
    }
    widen<L, V>(narrow, L == Look::kSplit ? *scale : 1, sums);
  }
}

// The indices of some words, for all batch rows.
constexpr int kTileWords = 8;

template <int V>
struct Tile {
  alignas(64) I indices[kTileWords * 6][V];
  int words;

  void fill(Halves<V>& halves, int count) {
    words = count;
    for (int w = 0; w < count; ++w) {
      for (int v = 0; v < V; ++v) {
        I half[2];
        halves.of(v, halves.column, half[0], half[1]);
        for (int h = 0; h < 2; ++h) {
          I(*at)[V] = indices + 6 * w + 3 * h;
          at[0][v] = half[h];
          at[1][v] = _mm512_srli_epi16(half[h], 6);
          at[2][v] = _mm512_srli_epi16(half[h], 11);
        }
      }
      halves.forward();
    }
  }
};

template <Look L, int V>
inline void sum_tile(const Tile<V>& tile, Tables<L> tables, const float* scale, int together,
                     F (&sums)[kOutputs<L>][2 * V]) {
  for (int word = 0; word < tile.words; ++scale) {
    I narrow[V][kPlanes<L>];
    for (auto& each : narrow) {
      for (auto& plane : each) plane = _mm512_setzero_si512();
    }
    const int end = word + together < tile.words ? word + together : tile.words;
    for (; word < end; ++word) {
      EDGEFC_UNROLL
      for (int half = 0; half < 2; ++half) {
        const I(*at)[V] = tile.indices + 6 * word + 3 * half;
        look<0, L, V>(tables, at[0], narrow);
        look<1, L, V>(tables, at[1], narrow);
        look<2, L, V>(tables, at[2], narrow);
        tables.forward();
      }
    }
    widen<L, V>(narrow, L == Look::kSplit ? *scale : 1, sums);
  }
}

// Writes sums to y between the blocks, and results after the last block.
struct Target {
  const Plan& plan;
  const Prepared& parts;
  Columns block;
  const float *out_scale, *bias;
  float* y;

  __mmask16 there(std::int64_t row) const { return lanes_there(plan.out - row); }
  template <int V>
  void begin(std::int64_t row, int batch_row, F (&sums)[V]) const {
    for (int v = 0; v < V; ++v, row += 16) {
      sums[v] = block.first == 0 ? _mm512_setzero_ps()
                                 : _mm512_maskz_loadu_ps(there(row), y + batch_row * plan.out + row);
    }
  }
  template <int V>
  void end(std::int64_t row, int batch_row, const F (&sums)[V]) const {
    const float half = plan.levels[0] / 2 - plan.levels[1] / 2, middle = plan.levels[0] / 2 + plan.levels[1] / 2;
    const F factor = _mm512_set1_ps(half * parts.steps[batch_row]);
    const F rest = _mm512_set1_ps(static_cast<float>(middle * parts.totals[batch_row]));
    for (int v = 0; v < V; ++v, row += 16) {
      F result = sums[v];
      if (block.last == plan.in) {
        result = _mm512_fmadd_ps(_mm512_fmadd_ps(result, factor, rest), _mm512_maskz_loadu_ps(there(row), out_scale + row),
                                 _mm512_maskz_loadu_ps(there(row), bias + row));
      }
      _mm512_mask_storeu_ps(y + batch_row * plan.out + row, there(row), result);
    }
  }
};

// 32 V rows of P for some batch rows, tile by tile.
template <Look L, int V>
inline void with_tile(const Tile<V>& tile, const Target& target, std::int64_t row, int batch_row, std::int64_t word) {
  F sums[kOutputs<L>][2 * V];
  const std::int64_t before = word * 2 * (L == Look::kSplit ? 2 : 1) * kTables16;
  Tables<L> tables(target.parts, batch_row);
  for (auto& each : tables.at) each += before;
  Target part = target;
  const bool last = target.block.first + (word + tile.words) * 32 >= target.block.last;
  part.block.first += word * 32;
  if (!last) part.block.last = 0;
  for (int b = 0; b < kOutputs<L>; ++b) part.begin(row, batch_row + b, sums[b]);
  const float* scales = target.parts.scales + batch_row * target.parts.scales_each + word * 32 / kGrain;
  sum_tile<L, V>(tile, tables, scales, words_together(target.plan), sums);
  for (int b = 0; b < kOutputs<L>; ++b) part.end(row, batch_row + b, sums[b]);
}

template <int V>
void sign_band(const Target& target, int rows, std::int64_t row) {
  const Plan& plan = target.plan;
  const std::int64_t words = (target.block.last - target.block.first + kGrain - 1) / kGrain * (kGrain / 32);
  Halves<V> halves(plan, row, target.block.first / 32);
  if (rows == 1) {
    F sums[1][2 * V];
    target.begin(row, 0, sums[0]);
    if (plan.int8) {
      sum_words<Look::kOne, V>(halves, target.parts, words, words_together(plan), sums);
    } else {
      sum_words<Look::kSplit, V>(halves, target.parts, words, words_together(plan), sums);
    }
    return target.end(row, 0, sums[0]);
  }
  Tile<V> tile;
  for (std::int64_t word = 0; word < words; word += kTileWords) {
    tile.fill(halves, static_cast<int>(words - word < kTileWords ? words - word : kTileWords));
    int b = 0;
    if (!plan.int8) {
      for (; b < rows; ++b) with_tile<Look::kSplit, V>(tile, target, row, b, word);
    }
    for (; b + 1 < rows; b += 2) with_tile<Look::kTwo, V>(tile, target, row, b, word);
    if (b < rows) with_tile<Look::kOne, V>(tile, target, row, b, word);
  }
}

constexpr int kPairs = 4;  // of vectors of rows at once

inline std::int64_t sign_band_rows(const Plan&, int) { return 32 * kPairs; }

inline void sign_bands(const Plan& plan, const float* prepared, int rows, Columns block, std::int64_t first,
                       std::int64_t last, const float* out_scale, const float* bias, float* y) {
  const Prepared parts(plan, rows, const_cast<float*>(prepared));
  const Target target{plan, parts, block, out_scale, bias, y};
  for (std::int64_t row = first; row < last;) {
    if (last - row > 64) {
      sign_band<kPairs>(target, rows, row);
      row += 32 * kPairs;
    } else {
      sign_band<1>(target, rows, row);
      row += 32;
    }
  }
}

inline bool takes_signs(const Plan& plan) { return plan.bits == 1; }

constexpr Variant kSigns{takes_signs,    sign_chunk,   sign_columns, sign_floats, sign_band_rows,
                         sign_prepare, sign_bands, &kLanes,      kGrain};

}  // namespace
}  // namespace edgefc::prp
