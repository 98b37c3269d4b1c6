// The seeded G of the EUGen kernel, with the vectors of one simd/CPU.h: stored in tiles or used from registers.
#pragma once

#include "eugen/eugen.h"
#include "simd/products.h"
#include "simd/words.h"

namespace edgefc::eugen {
namespace {

// Converts codes to levels.
template <int Bits>
struct Codes {
  static constexpr int kCount = 32 / Bits;  // codes per word
  const Lanes::Table16 table;
  const float* levels;
  const Lanes::I mask = Lanes::words((1u << Bits) - 1);

  explicit Codes(const Plan& plan) : table(plan.levels), levels(plan.levels) {}
  Lanes::F level(Lanes::I word, int place) const {
    const Lanes::I rest = Lanes::right(word, place * Bits);
    if constexpr (Bits == 8) return Lanes::gather(Lanes::both(rest, mask), levels);
    else return table[Bits == 4 ? rest : Lanes::both(rest, mask)];
  }
};

// At least `columns` columns, from the next word on, as (column, kWide).
template <int V, int Bits>
inline void generate(const Plan& plan, Words<V>& source, std::int64_t columns, float* to) {
  const Codes<Bits> codes(plan);
  for (std::int64_t c = 0; c < columns; c += codes.kCount) {
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) {
      const Lanes::I word = source.next(v);
      float* column = to + c * kWide + v * Lanes::width;
      EDGEFC_UNROLL
      for (int k = 0; k < codes.kCount; ++k) Lanes::store(column + k * kWide, codes.level(word, k));
    }
  }
}

// The same for B rows of x and their ends. Each value of G is used directly from its register.
template <int B, int V, int Bits>
inline void fused(const Plan& plan, const float* x, const float* ends, std::int64_t row, float* z,
                  std::int64_t z_step) {
  const Codes<Bits> codes(plan);
  Words<V> source(plan.keys, row);
  Lanes::F sums[B][V];
  EDGEFC_UNROLL
  for (int b = 0; b < B; ++b) {
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) sums[b][v] = Lanes::zero();
  }
  Lanes::I words[V];
  const auto column = [&](int place, const float* from, std::int64_t step) {
    Lanes::F levels[V];
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) levels[v] = codes.level(words[v], place);
    EDGEFC_UNROLL
    for (int b = 0; b < B; ++b) {
      const Lanes::F u = Lanes::all(from[b * step]);
      EDGEFC_UNROLL
      for (int v = 0; v < V; ++v) sums[b][v] = Lanes::multiply_add(u, levels[v], sums[b][v]);
    }
  };
  for (std::int64_t c = 0; c < plan.width; c += codes.kCount) {
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) words[v] = source.next(v);
    if (c + codes.kCount <= plan.in) {
      EDGEFC_UNROLL
      for (int k = 0; k < codes.kCount; ++k) column(k, x + c + k, plan.in);
      continue;
    }
    for (int k = 0; k < codes.kCount && c + k < plan.width; ++k) {
      if (c + k < plan.in) column(k, x + c + k, plan.in);
      else column(k, ends + (c + k - plan.in), kEnds);
    }
  }
  for (int b = 0; b < B; ++b) {
    for (int v = 0; v < V; ++v) Lanes::store(z + b * z_step + v * Lanes::width, sums[b][v]);
  }
}

template <int V>
inline void generate(const Plan& plan, Words<V>& source, std::int64_t columns, float* to) {
  switch (plan.bits) {
    case 1: return generate<V, 1>(plan, source, columns, to);
    case 2: return generate<V, 2>(plan, source, columns, to);
    case 4: return generate<V, 4>(plan, source, columns, to);
    default: return generate<V, 8>(plan, source, columns, to);
  }
}

}  // namespace
}  // namespace edgefc::eugen
