// The PRP kernel with the vectors of one simd/CPU.h. build.py compiles it once for each of them. Everything here is
// local to its file, so that the linker cannot use code for one processor on another one.
//
// Operations per vector of rows of P, of any width w, for every 32 bits: ten for the words, then
//   1 bit     a shift, and per batch row a look-up and an addition for each `table_bits` inputs
//   2, 4      a shift and a look-up for each input, and per batch row a multiply-add
//   8         the same if the codebook has a few runs of equal levels (after two operations per run for 4 inputs),
//             a conversion if its levels are equidistant, otherwise a gather
#pragma once

#include <cmath>

#include "prp/prp.h"
#include "prp/codes.h"
#include "simd/words.h"

namespace edgefc::prp {
namespace {

constexpr int kSteps = 32;  // words whose products have a separate sum
constexpr int kTile = 64;  // columns of P in a tile: 64 * 32 * 4 bytes = 8 KB at the widest

// The groups of inputs in a word of signs. The last group of a word may be shorter.
constexpr int kTable = 1 << Lanes::table_bits;
constexpr int kTables = (32 + Lanes::table_bits - 1) / Lanes::table_bits;

inline int padded(int rows) { return rows <= 2 ? rows : rows <= 4 ? 4 : (rows + kGroup - 1) / kGroup * kGroup; }
inline int group_of(int rows) { return rows < kGroup ? rows : kGroup; }

inline int chunk(const Plan& plan) { return plan.bits == 1 ? kGroup : kChunk; }
inline std::int64_t columns(const Plan& plan, int) { return plan.in; }

inline std::size_t floats(const Plan& plan, int rows) {
  const std::size_t words = static_cast<std::size_t>(plan.words);
  const std::size_t each = plan.bits == 1 ? kTables * kTable : 32 / static_cast<std::size_t>(plan.bits);
  return words * each * static_cast<std::size_t>(padded(rows));
}

template <int B>
constexpr int vectors_of() {
  return Lanes::vectors[B == 1 ? 0 : B == 2 ? 1 : B == 4 ? 2 : 3];
}

inline std::int64_t band(const Plan&, int rows) {
  const int b = group_of(padded(rows));
  return Lanes::width * Lanes::vectors[b == 1 ? 0 : b == 2 ? 1 : b == 4 ? 2 : 3];
}

// ---- tables and scaled inputs

// The sums of table_bits inputs at u with all combinations of levels: entry k uses levels[1] where bit b of k is set.
struct SignedSums {
  static constexpr int kVectors = kTable / Lanes::width;
  Lanes::F signs[Lanes::table_bits][kVectors];

  explicit SignedSums(const float* levels) {
    for (int b = 0; b < Lanes::table_bits; ++b) {
      float entries[kTable];
      for (int k = 0; k < kTable; ++k) entries[k] = levels[k >> b & 1];
      for (int v = 0; v < kVectors; ++v) signs[b][v] = Lanes::load(entries + v * Lanes::width);
    }
  }
  void write(const float* u, float* table) const {
    EDGEFC_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Lanes::F sum = Lanes::multiply(Lanes::all(u[0]), signs[0][v]);
      EDGEFC_UNROLL
      for (int b = 1; b < Lanes::table_bits; ++b) sum = Lanes::multiply_add(Lanes::all(u[b]), signs[b][v], sum);
      Lanes::store(table + v * Lanes::width, sum);
    }
  }
};

// The scaled inputs of a batch row; with int8 activations, the nearest of 255 multiples of one step.
struct Scaled {
  const float *x, *in_scale;
  float root, step = 0, per_step = 0;

  Scaled(const Plan& plan, const float* from, const float* scale)
      : x(from), in_scale(scale), root(static_cast<float>(1 / std::sqrt(static_cast<double>(plan.in)))) {
    if (!plan.int8) return;
    float largest = 0;
    bool finite = true;
    for (std::int64_t i = 0; i < plan.in; ++i) {
      const float size = __builtin_fabsf(exact(i));
      if (size > largest) largest = size;
      finite = finite && size <= kLargestFloat;
    }
    step = finite ? largest / 127 : kNotANumber;
    per_step = largest >= kSmallestRange ? 127 / largest : 0;
  }
  float exact(std::int64_t i) const { return x[i] * (in_scale[i] * root); }
  float operator()(std::int64_t i, const Plan& plan) const {
    return plan.int8 ? __builtin_nearbyintf(exact(i) * per_step) * step : exact(i);
  }
};

// prepared: for codes of 1 bit [word][table][group row][kTable], otherwise [group][input][group row]; zeros beyond in.
inline bool prepare(const Plan& plan, const float* x, int rows, Columns, Columns, const float* in_scale,
                    float* prepared) {
  const int all = padded(rows), b = group_of(all);
  const std::int64_t n = plan.in, wide = plan.words * (32 / plan.bits);
  for (int row = 0; row < all; ++row) {
    const Scaled u(plan, x + static_cast<std::int64_t>(row < rows ? row : 0) * n, in_scale);
    if (plan.bits > 1) {
      float* to = prepared + row / b * b * wide + row % b;
      if (row < rows) {
        for (std::int64_t i = 0; i < n; ++i) to[i * b] = u(i, plan);
      }
      for (std::int64_t i = row < rows ? n : 0; i < wide; ++i) to[i * b] = 0;
      continue;
    }
    float* to = prepared + row * kTable;
    const SignedSums sums(plan.levels);
    for (std::int64_t first = 0; first < wide; first += 32) {
      float values[32 + Lanes::table_bits] = {};  // zeros after the last input, and after a short last table
      const std::int64_t left = row < rows ? n - first : 0;
      const int count = left < 32 ? static_cast<int>(left) : 32;
      for (int i = 0; i < count; ++i) values[i] = u(first + i, plan);
      for (int i = 0; i < 32; i += Lanes::table_bits, to += b * kTable) sums.write(values + i, to);
    }
  }
  return true;
}

// ---- results

template <int V>
inline void finish(const Plan& plan, const Lanes::F (&sums)[V], std::int64_t row, const float* out_scale,
                   const float* bias, float* y) {
  for (int v = 0; v < V; ++v) {
    const std::int64_t at = row + v * Lanes::width;
    if (at + Lanes::width <= plan.out) {
      Lanes::store(y + at, Lanes::multiply_add(sums[v], Lanes::load(out_scale + at), Lanes::load(bias + at)));
      continue;
    }
    float last[Lanes::width];
    Lanes::store(last, sums[v]);
    for (std::int64_t i = at; i < plan.out; ++i) y[i] = last[i - at] * out_scale[i] + bias[i];
  }
}

template <int B, int V>
inline void clear(Lanes::F (&sums)[B][V]) {
  for (auto& each : sums) {
    for (auto& sum : each) sum = Lanes::zero();
  }
}

// Adds the sums to the totals and resets them: a single sum over thousands of inputs would have an error above 1e-12.
template <int B, int V>
inline void move_sums(Lanes::F (&sums)[B][V], Lanes::F (&totals)[B][V]) {
  for (int b = 0; b < B; ++b) {
    for (int v = 0; v < V; ++v) totals[b][v] = Lanes::add(totals[b][v], sums[b][v]);
  }
  clear<B, V>(sums);
}

// Codes of 1 bit, B batch rows.
template <int B>
void signs(const Plan& plan, const float* prepared, int rows, std::int64_t first, std::int64_t last,
           const float* out_scale, const float* bias, float* y) {
  constexpr int V = vectors_of<B>();
  const int words = static_cast<int>(plan.words);
  for (std::int64_t row = first; row < last; row += V * Lanes::width) {
    Words<V> source(plan.keys, row);
    Lanes::F sums[B][V];
    clear<B, V>(sums);
    const float* tables = prepared;
    for (int w = 0; w < words; ++w) {
      Lanes::I h[V];
      source.next(h);
      for (int t = 0; t < kTables; ++t) {
        EDGEFC_UNROLL
        for (int b = 0; b < B; ++b, tables += kTable) {
          EDGEFC_UNROLL
          for (int v = 0; v < V; ++v) sums[b][v] = Lanes::add(sums[b][v], Lanes::look(h[v], tables));
        }
        for (auto& each : h) each = Lanes::right(each, Lanes::table_bits);
      }
    }
    for (int b = 0; b < rows; ++b) finish<V>(plan, sums[b], row, out_scale, bias, y + b * plan.out);
  }
}

// Other codes, B batch rows: P is used directly from registers.
template <int B, class Codes>
void fused(const Plan& plan, const Codes& codes, const float* prepared, int rows, std::int64_t first,
           std::int64_t last, const float* out_scale, const float* bias, float* y) {
  constexpr int V = vectors_of<B>(), kCodes = 32 / Codes::bits;
  const int words = static_cast<int>(plan.words);
  for (std::int64_t row = first; row < last; row += V * Lanes::width) {
    Words<V> source(plan.keys, row);
    Lanes::F totals[B][V], sums[B][V];
    clear<B, V>(totals);
    clear<B, V>(sums);
    const float* u = prepared;
    for (int w = 0; w < words; ++w) {
      if (w % kSteps == 0) move_sums<B, V>(sums, totals);
      Lanes::I h[V];
      source.next(h);
      for (auto& each : h) each = codes.ready(each);
      for (int c = 0; c < kCodes; ++c, u += B) {
        EDGEFC_UNROLL
        for (int v = 0; v < V; ++v) {
          const Lanes::F level = codes.level(h[v]);
          EDGEFC_UNROLL
          for (int b = 0; b < B; ++b) sums[b][v] = Lanes::multiply_add(Lanes::all(u[b]), level, sums[b][v]);
          h[v] = Lanes::right(h[v], Codes::bits);
        }
      }
    }
    move_sums<B, V>(sums, totals);
    for (int b = 0; b < rows; ++b) finish<V>(plan, totals[b], row, out_scale, bias, y + b * plan.out);
  }
}

// Other codes, more rows than a group: kTile columns of the band at a time, used for all groups.
template <class Codes>
void tiled(const Plan& plan, const Codes& codes, const float* prepared, int rows, std::int64_t first,
           std::int64_t last, const float* out_scale, const float* bias, float* y) {
  constexpr int V = vectors_of<kGroup>(), kCodes = 32 / Codes::bits, kRows = V * Lanes::width;
  const int words = static_cast<int>(plan.words), groups = padded(rows) / kGroup;
  const std::int64_t wide = static_cast<std::int64_t>(words) * kCodes;
  alignas(64) float tile[kTile * kRows], held[kChunk * kRows];
  for (std::int64_t row = first; row < last; row += kRows) {
    Words<V> source(plan.keys, row);
    for (int i = 0; i < padded(rows) * kRows; ++i) held[i] = 0;
    for (std::int64_t begin = 0; begin < wide; begin += kTile) {
      const int columns = static_cast<int>(wide - begin < kTile ? wide - begin : kTile);
      for (int k = 0; k < columns; k += kCodes) {
        Lanes::I h[V];
        source.next(h);
        for (int v = 0; v < V; ++v) {
          h[v] = codes.ready(h[v]);
          for (int c = 0; c < kCodes; ++c) {
            Lanes::store(tile + (k + c) * kRows + v * Lanes::width, codes.level(h[v]));
            h[v] = Lanes::right(h[v], Codes::bits);
          }
        }
      }
      for (int g = 0; g < groups; ++g) {
        const float* u = prepared + (g * wide + begin) * kGroup;
        float* sums_held = held + g * kGroup * kRows;
        Lanes::F sums[kGroup][V];
        EDGEFC_UNROLL
        for (int b = 0; b < kGroup; ++b) {
          EDGEFC_UNROLL
          for (int v = 0; v < V; ++v) sums[b][v] = Lanes::zero();
        }
        for (int k = 0; k < columns; ++k, u += kGroup) {
          EDGEFC_UNROLL
          for (int b = 0; b < kGroup; ++b) {
            EDGEFC_UNROLL
            for (int v = 0; v < V; ++v) {
              const Lanes::F level = Lanes::load(tile + k * kRows + v * Lanes::width);
              sums[b][v] = Lanes::multiply_add(Lanes::all(u[b]), level, sums[b][v]);
            }
          }
        }
        EDGEFC_UNROLL
        for (int b = 0; b < kGroup; ++b) {
          EDGEFC_UNROLL
          for (int v = 0; v < V; ++v) {
            float* at = sums_held + b * kRows + v * Lanes::width;
            Lanes::store(at, Lanes::add(Lanes::load(at), sums[b][v]));
          }
        }
      }
    }
    for (int b = 0; b < rows; ++b) {
      Lanes::F sums[V];
      for (int v = 0; v < V; ++v) sums[v] = Lanes::load(held + b * kRows + v * Lanes::width);
      finish<V>(plan, sums, row, out_scale, bias, y + b * plan.out);
    }
  }
}

// ---- choice of the function

template <class Codes>
void with(const Codes& codes, const Plan& plan, const float* prepared, int rows, std::int64_t first, std::int64_t last,
          const float* out_scale, const float* bias, float* y) {
  switch (padded(rows)) {
    case 1: return fused<1>(plan, codes, prepared, rows, first, last, out_scale, bias, y);
    case 2: return fused<2>(plan, codes, prepared, rows, first, last, out_scale, bias, y);
    case 4: return fused<4>(plan, codes, prepared, rows, first, last, out_scale, bias, y);
    case kGroup: return fused<kGroup>(plan, codes, prepared, rows, first, last, out_scale, bias, y);
    default: return tiled(plan, codes, prepared, rows, first, last, out_scale, bias, y);
  }
}

inline void bands(const Plan& plan, const float* prepared, int rows, Columns, std::int64_t first, std::int64_t last,
                  const float* out_scale, const float* bias, float* y) {
  if (plan.bits == 1) {
    switch (padded(rows)) {
      case 1: return signs<1>(plan, prepared, rows, first, last, out_scale, bias, y);
      case 2: return signs<2>(plan, prepared, rows, first, last, out_scale, bias, y);
      case 4: return signs<4>(plan, prepared, rows, first, last, out_scale, bias, y);
      default: return signs<kGroup>(plan, prepared, rows, first, last, out_scale, bias, y);
    }
  }
  float sixteen[16];
  for (int k = 0; k < 16; ++k) sixteen[k] = plan.levels[plan.bits == 2 ? k % 4 : k];
  if (plan.bits == 2) return with(Direct<2>(sixteen), plan, prepared, rows, first, last, out_scale, bias, y);
  if (plan.bits == 4) return with(Direct<4>(sixteen), plan, prepared, rows, first, last, out_scale, bias, y);
  if (plan.classes) return with(Runs(plan), plan, prepared, rows, first, last, out_scale, bias, y);
  if (plan.step != 0) return with(Evenly(plan), plan, prepared, rows, first, last, out_scale, bias, y);
  return with(Gathered(plan.levels), plan, prepared, rows, first, last, out_scale, bias, y);
}

inline bool takes_all(const Plan&) { return true; }

constexpr Variant kLanes{takes_all, chunk, columns, floats, band, prepare, bands, nullptr, 0};

}  // namespace
}  // namespace edgefc::prp
