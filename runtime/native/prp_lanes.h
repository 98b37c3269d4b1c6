// The PRP kernel over the vectors of one lanes_*.h, included by one prp_*.cc each. Everything here is local to that file:
// code for one processor must not be the copy that the linker keeps for all.
//
// Operations per vector of P's rows, of any width w, for every 32 bits: ten for the words, then
//   1 bit     a shift, and per batch row a look-up and an addition for each `table_bits` inputs
//   2, 4      a shift and a look-up for each input, and per batch row a multiply-add
//   8         the same where the codebook is some runs of equal levels (first two operations per run for 4 inputs),
//             a conversion where its levels are at equal distances, a gather where neither
#pragma once

#include <cmath>

#include "prp.h"

#if defined(__clang__)
#define EDGEFC_UNROLL _Pragma("unroll")
#else
#define EDGEFC_UNROLL _Pragma("GCC unroll 16")
#endif

namespace edgefc::prp {
namespace {

constexpr int kTile = 64;  // columns of P in a tile: 64 * 32 * 4 bytes = 8 KB at the widest

inline int words_per_row(const Plan& plan) {
  return static_cast<int>((plan.in * plan.bits + 31) / 32);
}
// Groups of inputs to a word of signs; the last one of a word may be short.
constexpr int kTable = 1 << Lanes::table_bits;
constexpr int kTables = (32 + Lanes::table_bits - 1) / Lanes::table_bits;

inline int padded(int rows) { return rows <= 2 ? rows : rows <= 4 ? 4 : (rows + kGroup - 1) / kGroup * kGroup; }
inline int group_of(int rows) { return rows < kGroup ? rows : kGroup; }

inline int chunk(const Plan& plan) { return plan.bits == 1 ? kGroup : kChunk; }

inline std::size_t floats(const Plan& plan, int rows) {
  const std::size_t words = static_cast<std::size_t>(words_per_row(plan));
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

// ---- what is looked up

// The sums of table_bits inputs at u under all their signs: entry k takes levels[1] where bit b of k is set.
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

// prepared: for codes of 1 bit [word][table][group row][kTable], otherwise [group][input][group row]; zeros beyond in.
inline void prepare(const Plan& plan, const float* x, int rows, const float* in_scale, float* prepared) {
  const int all = padded(rows), b = group_of(all);
  const std::int64_t n = plan.in, wide = static_cast<std::int64_t>(words_per_row(plan)) * (32 / plan.bits);
  const auto root = static_cast<float>(1 / std::sqrt(static_cast<double>(n)));
  for (int row = 0; row < all; ++row) {
    const float* from = x + static_cast<std::int64_t>(row < rows ? row : 0) * n;
    if (plan.bits > 1) {
      float* to = prepared + row / b * b * wide + row % b;
      if (row < rows) {
        for (std::int64_t i = 0; i < n; ++i) to[i * b] = from[i] * (in_scale[i] * root);
      }
      for (std::int64_t i = row < rows ? n : 0; i < wide; ++i) to[i * b] = 0;
      continue;
    }
    float* to = prepared + row * kTable;
    const SignedSums sums(plan.levels);
    for (std::int64_t first = 0; first < wide; first += 32) {
      float u[32 + Lanes::table_bits] = {};  // zeros behind the last input, and behind a short last table
      const std::int64_t left = row < rows ? n - first : 0;
      const int count = left < 32 ? static_cast<int>(left) : 32;
      for (int i = 0; i < count; ++i) u[i] = from[first + i] * (in_scale[first + i] * root);
      for (int i = 0; i < 32; i += Lanes::table_bits, to += b * kTable) sums.write(u + i, to);
    }
  }
}

// ---- the words of V vectors of rows

template <int V>
struct Words {
  Lanes::I counter[V], twist[V];

  Words(const Plan& plan, std::int64_t row) {
    for (int v = 0; v < V; ++v) {
      const Lanes::I rows = Lanes::count(static_cast<std::uint32_t>(row + v * Lanes::width));
      counter[v] = mixed(Lanes::add(rows, Lanes::words(plan.keys.first)));
      twist[v] = mixed(Lanes::exclusive(Lanes::multiply(rows, Lanes::words(kStride)), Lanes::words(plan.keys.second)));
    }
  }

  void next(Lanes::I (&h)[V]) {
    for (int v = 0; v < V; ++v) {
      const Lanes::I c = counter[v];
      h[v] = Lanes::multiply(Lanes::exclusive(c, Lanes::right(c, 16)), Lanes::words(kMultiply1));
      h[v] = Lanes::exclusive(h[v], twist[v]);
      h[v] = Lanes::multiply(Lanes::exclusive(h[v], Lanes::right(h[v], 15)), Lanes::words(kMultiply2));
      h[v] = Lanes::exclusive(h[v], Lanes::right(h[v], 16));
      counter[v] = Lanes::add(c, Lanes::words(kStride));
    }
  }

  static Lanes::I mixed(Lanes::I h) {
    h = Lanes::multiply(Lanes::exclusive(h, Lanes::right(h, 16)), Lanes::words(kMultiply1));
    h = Lanes::multiply(Lanes::exclusive(h, Lanes::right(h, 15)), Lanes::words(kMultiply2));
    return Lanes::exclusive(h, Lanes::right(h, 15));
  }
};

// ---- how codes become levels; bits is how far a word moves from one to the next

// Up to 16 levels, the codebook itself.
template <int Bits>
struct Direct {
  static constexpr int bits = Bits;
  Lanes::Table16 table;
  const Lanes::I mask = Lanes::words((1u << Bits) - 1);

  explicit Direct(const float* sixteen) : table(sixteen) {}
  Lanes::I ready(Lanes::I word) const { return word; }
  Lanes::F level(Lanes::I codes) const { return table[Bits == 4 ? codes : Lanes::both(codes, mask)]; }
};

// Codes of 8 bits, the codebook a few runs of equal levels.
struct Runs {
  static constexpr int bits = 8;
  Lanes::Table16 table;
  const Plan& plan;

  explicit Runs(const Plan& p) : table(p.class_levels), plan(p) {}
  Lanes::I ready(Lanes::I word) const {
    Lanes::I counts = Lanes::words(0);
    for (int t = 0; t < plan.classes - 1; ++t) counts = Lanes::count_at_least(counts, word, plan.thresholds[t]);
    return counts;
  }
  Lanes::F level(Lanes::I codes) const { return table[codes]; }
};

// Codes of 8 bits, the levels at equal distances.
struct Evenly {
  static constexpr int bits = 8;
  const Lanes::F step, below;
  const Lanes::I mask = Lanes::words(255);

  explicit Evenly(const Plan& p) : step(Lanes::all(p.step)), below(Lanes::all(-p.origin)) {}
  Lanes::I ready(Lanes::I word) const { return word; }
  Lanes::F level(Lanes::I codes) const {
    return Lanes::multiply(Lanes::add(Lanes::number(Lanes::both(codes, mask)), below), step);
  }
};

// Codes of 8 bits, any codebook.
struct Gathered {
  static constexpr int bits = 8;
  const float* levels;
  const Lanes::I mask = Lanes::words(255);

  explicit Gathered(const float* all) : levels(all) {}
  Lanes::I ready(Lanes::I word) const { return word; }
  Lanes::F level(Lanes::I codes) const { return Lanes::gather(Lanes::both(codes, mask), levels); }
};

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

// Codes of 1 bit, B batch rows.
template <int B>
void signs(const Plan& plan, const float* prepared, int rows, std::int64_t first, std::int64_t last,
           const float* out_scale, const float* bias, float* y) {
  constexpr int V = vectors_of<B>();
  const int words = words_per_row(plan);
  for (std::int64_t row = first; row < last; row += V * Lanes::width) {
    Words<V> source(plan, row);
    Lanes::F sums[B][V];
    for (auto& each : sums) {
      for (auto& sum : each) sum = Lanes::zero();
    }
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

// Other codes, B batch rows: P goes from registers to the sums.
template <int B, class Codes>
void fused(const Plan& plan, const Codes& codes, const float* prepared, int rows, std::int64_t first,
           std::int64_t last, const float* out_scale, const float* bias, float* y) {
  constexpr int V = vectors_of<B>(), kCodes = 32 / Codes::bits;
  const int words = words_per_row(plan);
  for (std::int64_t row = first; row < last; row += V * Lanes::width) {
    Words<V> source(plan, row);
    Lanes::F sums[B][V];
    for (auto& each : sums) {
      for (auto& sum : each) sum = Lanes::zero();
    }
    const float* u = prepared;
    for (int w = 0; w < words; ++w) {
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
    for (int b = 0; b < rows; ++b) finish<V>(plan, sums[b], row, out_scale, bias, y + b * plan.out);
  }
}

// Other codes, more rows than a group: kTile columns of the band at a time, used for every group.
template <class Codes>
void tiled(const Plan& plan, const Codes& codes, const float* prepared, int rows, std::int64_t first,
           std::int64_t last, const float* out_scale, const float* bias, float* y) {
  constexpr int V = vectors_of<kGroup>(), kCodes = 32 / Codes::bits, kRows = V * Lanes::width;
  const int words = words_per_row(plan), groups = padded(rows) / kGroup;
  const std::int64_t wide = static_cast<std::int64_t>(words) * kCodes;
  alignas(64) float tile[kTile * kRows], held[kChunk * kRows];
  for (std::int64_t row = first; row < last; row += kRows) {
    Words<V> source(plan, row);
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
          for (int v = 0; v < V; ++v) sums[b][v] = Lanes::load(sums_held + b * kRows + v * Lanes::width);
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
          for (int v = 0; v < V; ++v) Lanes::store(sums_held + b * kRows + v * Lanes::width, sums[b][v]);
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

// ---- which of them

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

inline void bands(const Plan& plan, const float* prepared, int rows, std::int64_t first, std::int64_t last,
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

constexpr Variant kHere{chunk, floats, band, prepare, bands};

}  // namespace
}  // namespace edgefc::prp
