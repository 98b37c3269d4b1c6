// Vectors of W floats, for each W from 4 to Lanes::width, with compiler operators. Included after a simd/CPU.h, which
// defines mul_add(a, b, c) = a b + c, mul_sub(a, b, c) = a b - c and neg_mul_add(a, b, c) = c - a b for all of them.
#pragma once

#include <cstddef>
#include <utility>

#include "simd/compiler.h"

namespace edgefc {
namespace {

template <int W>
struct Vector {
  typedef float Type __attribute__((vector_size(4 * W)));
  typedef float Loose __attribute__((vector_size(4 * W), aligned(4), may_alias));
};
template <int W>
using VectorOf = typename Vector<W>::Type;

template <class V>
EDGEFC_INLINE V fill(float s) {
  return s - V{};
}

template <int W>
EDGEFC_INLINE VectorOf<W> load(const float* p) {
  return *reinterpret_cast<const typename Vector<W>::Loose*>(p);
}
template <int W>
EDGEFC_INLINE void store(float* p, const VectorOf<W>& v) {
  *reinterpret_cast<typename Vector<W>::Loose*>(p) = v;
}

// For two rows of a W x W matrix at distance H: in each 2 H columns, exchanges the right H columns of the first row
// with the left H columns of the second.
template <int W, int H, class V, std::size_t... L>
EDGEFC_INLINE void exchange(V& a, V& b, std::index_sequence<L...>) {
#if defined(__clang__)
  const V low = __builtin_shufflevector(a, b, ((L & H) ? W + L - H : L)...);
  b = __builtin_shufflevector(a, b, ((L & H) ? W + L : L + H)...);
#else  // every version of GCC has this one; the other exists from GCC 12 on
  typedef int Places __attribute__((vector_size(4 * W)));
  const V low = __builtin_shuffle(a, b, Places{static_cast<int>((L & H) ? W + L - H : L)...});
  b = __builtin_shuffle(a, b, Places{static_cast<int>((L & H) ? W + L : L + H)...});
#endif
  a = low;
}

// W vectors of W, the rows of a matrix; H is for its own calls.
template <int W, int H = W / 2, class V>
EDGEFC_INLINE void transpose(V* v) {
  EDGEFC_UNROLL
  for (int i = 0; i < W; ++i) {
    if (!(i & H)) exchange<W, H>(v[i], v[i + H], std::make_index_sequence<W>{});
  }
  if constexpr (H > 1) transpose<W, H / 2>(v);
}

}  // namespace
}  // namespace edgefc
