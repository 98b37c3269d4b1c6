// The words of the seeded matrix (generator.h) with the vectors of a simd/CPU.h: lanes are rows of the matrix.
#pragma once

#include "simd/compiler.h"
#include "simd/generator.h"

namespace edgefc {
namespace {

inline Lanes::I folded(Lanes::I h, int places) { return Lanes::exclusive(h, Lanes::right(h, places)); }

inline Lanes::I mixed(Lanes::I h) {
  h = Lanes::multiply(folded(h, 16), Lanes::words(kMultiply1));
  return folded(Lanes::multiply(folded(h, 15), Lanes::words(kMultiply2)), 15);
}

// The start of the counter of a row, and its twist.
struct Start {
  Lanes::I counter, twist;

  Start() = default;
  Start(const Keys& keys, std::int64_t row) {
    const Lanes::I rows = Lanes::count(static_cast<std::uint32_t>(row));
    counter = mixed(Lanes::add(rows, Lanes::words(keys.first)));
    twist = mixed(Lanes::exclusive(Lanes::multiply(rows, Lanes::words(kStride)), Lanes::words(keys.second)));
  }
};

// All steps except the last one, h ^ h >> 16.
inline Lanes::I unfinished(Lanes::I counter, Lanes::I twist) {
  const Lanes::I h = Lanes::multiply(folded(counter, 16), Lanes::words(kMultiply1));
  return Lanes::multiply(folded(Lanes::exclusive(h, twist), 15), Lanes::words(kMultiply2));
}

// The words of V vectors of rows from `row` on, one column after the other.
template <int V>
struct Words {
  Lanes::I counter[V], twist[V];

  Words(const Keys& keys, std::int64_t row) {
    for (int v = 0; v < V; ++v) {
      const Start start(keys, row + v * Lanes::width);
      counter[v] = start.counter;
      twist[v] = start.twist;
    }
  }

  Lanes::I next(int v) {
    const Lanes::I last = unfinished(counter[v], twist[v]);
    counter[v] = Lanes::add(counter[v], Lanes::words(kStride));
    return folded(last, 16);
  }
  void next(Lanes::I (&h)[V]) {
    for (int v = 0; v < V; ++v) h[v] = next(v);
  }
};

}  // namespace
}  // namespace edgefc
