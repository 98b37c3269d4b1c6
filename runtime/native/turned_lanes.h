// A matrix turned on its side, over the vectors of one lanes_*.h; included behind products_lanes.h.
#pragma once

#include <cstddef>
#include <utility>

#include "products_lanes.h"

namespace edgefc {
namespace {

// Of two rows of a square H apart: the second's left H columns in each 2 H for the first's right ones.
template <int H, std::size_t... L>
inline void exchange(Lanes::F& a, Lanes::F& b, std::index_sequence<L...>) {
  constexpr int W = Lanes::width;
#if defined(__clang__)
  const Lanes::F low = __builtin_shufflevector(a, b, ((L & H) ? W + L - H : L)...);
  b = __builtin_shufflevector(a, b, ((L & H) ? W + L : L + H)...);
#else  // GCC has this one in every version, the other from 12 on
  typedef int Places __attribute__((vector_size(4 * W)));
  const Lanes::F low = __builtin_shuffle(a, b, Places{static_cast<int>((L & H) ? W + L - H : L)...});
  b = __builtin_shuffle(a, b, Places{static_cast<int>((L & H) ? W + L : L + H)...});
#endif
  a = low;
}

template <int H>
inline void turn_stage(Lanes::F (&v)[Lanes::width]) {
  EDGEFC_FLAT
  for (int i = 0; i < Lanes::width; ++i) {
    if (!(i & H)) exchange<H>(v[i], v[i + H], std::make_index_sequence<Lanes::width>{});
  }
  if constexpr (H > 1) turn_stage<H / 2>(v);
}

// w (rows, columns) of row length w_step -> to (columns, rows), of row length kWide; rows <= kWide.
inline void turn(const float* w, std::int64_t w_step, std::int64_t rows, std::int64_t columns, float* to) {
  constexpr int W = Lanes::width;
  std::int64_t r = 0;
  for (; r + W <= rows; r += W) {
    const float* from = w + r * w_step;
    std::int64_t c = 0;
    for (; c + W <= columns; c += W) {
      Lanes::F v[W];
      EDGEFC_FLAT
      for (int i = 0; i < W; ++i) v[i] = Lanes::load(from + i * w_step + c);
      turn_stage<W / 2>(v);
      EDGEFC_FLAT
      for (int i = 0; i < W; ++i) Lanes::store(to + (c + i) * kWide + r, v[i]);
    }
    for (; c < columns; ++c) {
      for (int i = 0; i < W; ++i) to[c * kWide + r + i] = from[i * w_step + c];
    }
  }
  for (; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) to[c * kWide + r] = w[r * w_step + c];
  }
}

}  // namespace
}  // namespace edgefc
