// Two small matrix products with the vectors of one simd/CPU.h, for matrices in row-major order: sums are in registers,
// for a few rows of each side at once. Included like prp_lanes.h, after a simd/CPU.h.
//
//   dots    to[b][r] += x[b] . w[r]               dot products of rows of x and rows of w
//   spread  y[b] += sum over r of h[b][r] w[r]    weighted sums of the rows of w
#pragma once

#include <cstdint>

#include "simd/compiler.h"

namespace edgefc {
namespace {

constexpr bool kManyRegisters = Lanes::registers >= 32;
constexpr int kDotRows = kManyRegisters ? 6 : 2;        // of x at once, against four of w
constexpr int kSpreadRows = 6;                          // of h at once
constexpr int kSpreadVectors = kManyRegisters ? 4 : 2;  // of w's columns at once
constexpr std::int64_t kWide = kSpreadVectors * Lanes::width;
constexpr std::int64_t kStretch = 2048;                 // columns of dots at a time

// The first `count` < width numbers, then zeros.
inline Lanes::F load_some(const float* from, std::int64_t count) {
  float part[Lanes::width] = {};
  for (std::int64_t i = 0; i < count; ++i) part[i] = from[i];
  return Lanes::load(part);
}

inline void store_some(float* to, Lanes::F value, std::int64_t count) {
  float part[Lanes::width];
  Lanes::store(part, value);
  for (std::int64_t i = 0; i < count; ++i) to[i] = part[i];
}

// B rows of x against `count` <= 4 Q rows of w, n columns.
template <int B, int Q>
inline void dots(const float* x, std::int64_t x_step, const float* w, std::int64_t w_step, int count, std::int64_t n,
                 float* to, std::int64_t to_step) {
  constexpr int R = 4 * Q;
  const float* rows[R];
  for (int r = 0; r < R; ++r) rows[r] = w + (r < count ? r : count - 1) * w_step;
  Lanes::F sums[B][R];
  EDGEFC_UNROLL
  for (int b = 0; b < B; ++b) {
    EDGEFC_UNROLL
    for (int r = 0; r < R; ++r) sums[b][r] = Lanes::zero();
  }
  std::int64_t i = 0;
  for (; i + Lanes::width <= n; i += Lanes::width) {
    Lanes::F some[R];
    EDGEFC_UNROLL
    for (int r = 0; r < R; ++r) some[r] = Lanes::load(rows[r] + i);
    EDGEFC_UNROLL
    for (int b = 0; b < B; ++b) {
      const Lanes::F u = Lanes::load(x + b * x_step + i);
      EDGEFC_UNROLL
      for (int r = 0; r < R; ++r) sums[b][r] = Lanes::multiply_add(u, some[r], sums[b][r]);
    }
  }
  if (i < n) {
    for (int r = 0; r < R; ++r) {
      const Lanes::F some = load_some(rows[r] + i, n - i);
      for (int b = 0; b < B; ++b) {
        sums[b][r] = Lanes::multiply_add(load_some(x + b * x_step + i, n - i), some, sums[b][r]);
      }
    }
  }
  EDGEFC_UNROLL
  for (int b = 0; b < B; ++b) {
    float* into = to + b * to_step;
    float made[R] = {};
    EDGEFC_UNROLL
    for (int q = 0; q < Q; ++q) {
      const Lanes::F* four = sums[b] + 4 * q;
      Lanes::add_sums(four[0], four[1], four[2], four[3], (count == R ? into : made) + 4 * q);
    }
    if (count == R) continue;
    for (int r = 0; r < count; ++r) into[r] += made[r];
  }
}

// Adds V vectors of columns of w, `rows` rows, to B rows of y. Unless `ahead` is 0, prefetches the value `ahead` floats
// after each value of w that it reads.
template <int B, int V>
inline void spread(const float* h, std::int64_t h_step, const float* w, std::int64_t w_step, std::int64_t rows,
                   float* y, std::int64_t y_step, std::int64_t ahead) {
  Lanes::F sums[B][V];
  EDGEFC_UNROLL
  for (int b = 0; b < B; ++b) {
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) sums[b][v] = Lanes::zero();
  }
  for (std::int64_t r = 0; r < rows; ++r, w += w_step) {
    Lanes::F some[V];
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) some[v] = Lanes::load(w + v * Lanes::width);
    if (ahead) {
      for (int v = 0; v < V * Lanes::width; v += 16) __builtin_prefetch(w + ahead + v, 0, 2);
    }
    EDGEFC_UNROLL
    for (int b = 0; b < B; ++b) {
      const Lanes::F weight = Lanes::all(h[b * h_step + r]);
      EDGEFC_UNROLL
      for (int v = 0; v < V; ++v) sums[b][v] = Lanes::multiply_add(weight, some[v], sums[b][v]);
    }
  }
  EDGEFC_UNROLL
  for (int b = 0; b < B; ++b) {
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) {
      float* to = y + b * y_step + v * Lanes::width;
      Lanes::store(to, Lanes::add(Lanes::load(to), sums[b][v]));
    }
  }
}

// The last `columns` < width of them.
template <int B>
inline void spread_some(const float* h, std::int64_t h_step, const float* w, std::int64_t w_step, std::int64_t rows,
                        float* y, std::int64_t y_step, std::int64_t columns) {
  for (int b = 0; b < B; ++b) {
    Lanes::F sum = load_some(y + b * y_step, columns);
    for (std::int64_t r = 0; r < rows; ++r) {
      sum = Lanes::multiply_add(Lanes::all(h[b * h_step + r]), load_some(w + r * w_step, columns), sum);
    }
    store_some(y + b * y_step, sum, columns);
  }
}

// f(std::integral_constant-like B) for B = count, 1 <= count <= 6.
template <int B>
struct Rows {
  static constexpr int count = B;
};
template <class F>
inline void with_rows(std::int64_t count, const F& f) {
  switch (count) {
    case 1: return f(Rows<1>());
    case 2: return f(Rows<2>());
    case 3: return f(Rows<3>());
    case 4: return f(Rows<4>());
    case 5: return f(Rows<5>());
    default: return f(Rows<6>());
  }
}

// The number of remaining rows to process at once. If more than `most` remain, the last two blocks divide them evenly.
constexpr std::int64_t some_of(std::int64_t left, std::int64_t most) {
  return left <= most ? left : left < 2 * most ? (left + 1) / 2 : most;
}

// Any number of rows on both sides: x (xs, n), w (ws, n), to (xs, ws) of row length to_step.
inline void all_dots(const float* x, std::int64_t xs, const float* w, std::int64_t ws, std::int64_t n, float* to,
                     std::int64_t to_step) {
  for (std::int64_t i = 0; i < n; i += kStretch) {
    const std::int64_t columns = n - i < kStretch ? n - i : kStretch;
    for (std::int64_t b = 0, take; b < xs; b += take) {
      take = some_of(xs - b, kDotRows);
      with_rows(take, [&](auto of) {
        constexpr int B = decltype(of)::count, Q = B == 1 ? 2 : 1;
        if constexpr (B <= kDotRows) {
          for (std::int64_t r = 0; r < ws; r += 4 * Q) {
            const int count = static_cast<int>(ws - r < 4 * Q ? ws - r : 4 * Q);
            dots<B, Q>(x + b * n + i, n, w + r * n + i, n, count, columns, to + b * to_step + r, to_step);
          }
        }
      });
    }
  }
}

// h (hs, rows), w (rows, columns), y (hs, columns), each with its own row length; `ahead` as in spread(), only for the
// first rows of h.
inline void all_spread(const float* h, std::int64_t hs, std::int64_t h_step, const float* w, std::int64_t w_step,
                       std::int64_t rows, std::int64_t columns, float* y, std::int64_t y_step, std::int64_t ahead) {
  for (std::int64_t i = 0; i < columns; i += kWide) {
    for (std::int64_t b = 0, take; b < hs; b += take) {
      take = some_of(hs - b, kSpreadRows);
      with_rows(take, [&](auto of) {
        constexpr int B = decltype(of)::count;
        const float* weights = h + b * h_step;
        float* sums = y + b * y_step;
        if (i + kWide <= columns) {
          return spread<B, kSpreadVectors>(weights, h_step, w + i, w_step, rows, sums + i, y_step, b == 0 ? ahead : 0);
        }
        std::int64_t at = i;
        for (; at + Lanes::width <= columns; at += Lanes::width) {
          spread<B, 1>(weights, h_step, w + at, w_step, rows, sums + at, y_step, b == 0 ? ahead : 0);
        }
        if (at < columns) spread_some<B>(weights, h_step, w + at, w_step, rows, sums + at, y_step, columns - at);
      });
    }
  }
}

}  // namespace
}  // namespace edgefc
