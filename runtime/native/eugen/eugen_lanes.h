// The EUGen kernel with the vectors of one simd/CPU.h; compiled, and local to its file, as in prp_lanes.h.
#pragma once

#include "simd/activations.h"
#include "eugen/eugen.h"
#include "eugen/codes.h"
#include "simd/products.h"
#include "simd/turned.h"

namespace edgefc::eugen {
namespace {

constexpr std::int64_t kColumns = 64;                    // of G at a time: 64 * 64 * 4 bytes = 16 KB at the widest
constexpr std::int64_t kDepth = 256;                     // columns of W in a transposed tile
constexpr std::int64_t kFused = kManyRegisters ? 6 : 4;  // rows that use G from registers at once
constexpr std::int64_t kTurnFrom = 6;                    // rows from which on a transposed tile is faster

inline void make(const Plan& plan, float* stored) {
  alignas(64) float tile[kColumns * kWide];
  for (std::int64_t row = 0; row < plan.rows; row += kWide) {
    Words<kSpreadVectors> source(plan.keys, row);
    for (std::int64_t c = 0; c < plan.width; c += kColumns) {
      const std::int64_t columns = plan.width - c < kColumns ? plan.width - c : kColumns;
      generate(plan, source, columns, tile);
      for (std::int64_t i = 0; i < columns * kWide; ++i) *stored++ = tile[i];
    }
  }
}

// ---- f(x)

// The square of the norm of x.
inline float square(const float* x, std::int64_t n) {
  Lanes::F sums[4] = {Lanes::zero(), Lanes::zero(), Lanes::zero(), Lanes::zero()};
  std::int64_t i = 0;
  for (; i + 4 * Lanes::width <= n; i += 4 * Lanes::width) {
    EDGEFC_UNROLL
    for (int v = 0; v < 4; ++v) {
      const Lanes::F u = Lanes::load(x + i + v * Lanes::width);
      sums[v] = Lanes::multiply_add(u, u, sums[v]);
    }
  }
  float parts[4] = {}, rest = 0;
  Lanes::add_sums(sums[0], sums[1], sums[2], sums[3], parts);
  for (; i < n; ++i) rest += x[i] * x[i];
  return (parts[0] + parts[1]) + (parts[2] + parts[3]) + rest;
}

inline void end(const Plan& plan, const float* x, std::int64_t rows, float* ends) {
  for (std::int64_t b = 0; b < rows; ++b, x += plan.in, ends += kEnds) {
    if (plan.one) ends[0] = 1;
    if (plan.norm) ends[plan.one] = __builtin_sqrtf(square(x, plan.in) + (plan.one ? 1.0f : 0.0f));
  }
}

// `columns` columns of G, in `made`, times the same columns of x+.
template <int V>
inline void add_columns(const float* from, std::int64_t step, std::int64_t rows, const float* made,
                        std::int64_t columns, float* z, std::int64_t z_step) {
  for (std::int64_t b = 0, take; b < rows; b += take) {
    take = some_of(rows - b, kSpreadRows);
    with_rows(take, [&](auto of) {
      spread<decltype(of)::count, V>(from + b * step, step, made, kWide, columns, z + b * z_step, z_step, 0);
    });
  }
}

template <int V>
inline void project_band(const Plan& plan, const float* x, const float* ends, std::int64_t rows, std::int64_t band,
                         float* z, std::int64_t z_step) {
  if (rows <= 2 * kFused && plan.stored == nullptr && plan.bits == 4) {
    for (std::int64_t b = 0, take; b < rows; b += take) {
      take = some_of(rows - b, kFused);
      with_rows(take, [&](auto of) {
        constexpr int B = decltype(of)::count;
        if constexpr (B <= kFused) {
          fused<B, V, 4>(plan, x + b * plan.in, ends + b * kEnds, band * kWide, z + b * z_step, z_step);
        }
      });
    }
    return;
  }
  alignas(64) float tile[kColumns * kWide];
  Words<V> source(plan.keys, band * kWide);
  for (std::int64_t b = 0; b < rows; ++b) {
    for (std::int64_t i = 0; i < kWide; ++i) z[b * z_step + i] = 0;
  }
  for (std::int64_t c = 0; c < plan.width; c += kColumns) {
    const std::int64_t last = plan.width - c < kColumns ? plan.width : c + kColumns;
    const std::int64_t inner = last < plan.in ? last : plan.in;  // columns before this one belong to x itself
    const float* made = plan.stored == nullptr ? tile : plan.stored + (band * plan.width + c) * kWide;
    if (plan.stored == nullptr) generate(plan, source, last - c, tile);
    if (c < inner) add_columns<V>(x + c, plan.in, rows, made, inner - c, z, z_step);
    const std::int64_t outer = c > plan.in ? c : plan.in;
    if (outer < last) {
      add_columns<V>(ends + (outer - plan.in), kEnds, rows, made + (outer - c) * kWide, last - outer, z, z_step);
    }
  }
}

inline void project(const Plan& plan, const float* x, const float* ends, std::int64_t rows, std::int64_t first,
                    std::int64_t last, float* z) {
  const std::int64_t z_step = (plan.rows + kWide - 1) / kWide * kWide;
  for (std::int64_t band = first; band < last; ++band) {
    const std::int64_t left = plan.rows - band * kWide;
    float* to = z + band * kWide;
    if (left <= Lanes::width) project_band<1>(plan, x, ends, rows, band, to, z_step);
    else if (left <= 2 * Lanes::width) project_band<2>(plan, x, ends, rows, band, to, z_step);
    else project_band<kSpreadVectors>(plan, x, ends, rows, band, to, z_step);
  }
}

inline void combine(const Plan& plan, const float* z, std::int64_t rows, float* f) {
  const std::int64_t m = plan.features, z_step = (plan.rows + kWide - 1) / kWide * kWide;
  for (std::int64_t b = 0; b < rows; ++b, z += z_step, f += plan.made) {
    const float* next = z;
    for (std::int64_t i = 0; i < plan.order; ++i) {
      float* to = f + i * m;
      for (std::int64_t t = 0; t < m; ++t) to[t] = next[t];
      next += m;
      if (plan.shared) {
        for (std::int64_t t = 0; t < m && i > 0; ++t) to[t] *= to[t - m];
        continue;
      }
      for (std::int64_t j = 0; j < i; ++j, next += m) {
        for (std::int64_t t = 0; t < m; ++t) to[t] *= next[t];
      }
    }
    activate(plan.activation, f, plan.made);
  }
}

// ---- the outputs

inline void apply(const Plan& plan, const float* f, std::int64_t rows, const float* weight, const float* bias,
                  std::int64_t first, std::int64_t last, float* y) {
  const std::int64_t n = plan.made;
  for (std::int64_t b = 0; b < rows; ++b) {
    for (std::int64_t i = first; i < last; ++i) y[b * plan.out + i] = bias[i];
  }
  if (rows < kTurnFrom) return all_dots(f, rows, weight + first * n, last - first, n, y + first, plan.out);
  alignas(64) float tile[kDepth * kWide];
  for (std::int64_t row = first; row < last; row += kWide) {
    const std::int64_t count = last - row < kWide ? last - row : kWide;
    for (std::int64_t i = 0; i < n; i += kDepth) {
      const std::int64_t depth = n - i < kDepth ? n - i : kDepth;
      turn(weight + row * n + i, n, count, depth, tile);
      all_spread(f + i, rows, n, tile, kWide, depth, count, y + row, plan.out, 0);
    }
  }
}

constexpr Variant kLanes{kWide, make, end, project, combine, apply};

}  // namespace
}  // namespace edgefc::eugen
