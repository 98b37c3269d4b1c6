// The words of the seeded matrix (generator.h) over the vectors of a simd/CPU.h: lanes are rows of P.
#pragma once

#include "prp/prp.h"
#include "simd/compiler.h"

namespace edgefc::prp {
namespace {

inline std::int64_t words_per_row(const Plan& plan) { return (plan.in * plan.bits + 31) / 32; }

inline Lanes::I mixed(Lanes::I h) {
  h = Lanes::multiply(Lanes::exclusive(h, Lanes::right(h, 16)), Lanes::words(kMultiply1));
  h = Lanes::multiply(Lanes::exclusive(h, Lanes::right(h, 15)), Lanes::words(kMultiply2));
  return Lanes::exclusive(h, Lanes::right(h, 15));
}

// Of a row: where its counter starts, and its twist.
struct Start {
  Lanes::I counter, twist;

  Start() = default;
  Start(const Plan& plan, std::int64_t row) {
    const Lanes::I rows = Lanes::count(static_cast<std::uint32_t>(row));
    counter = mixed(Lanes::add(rows, Lanes::words(plan.keys.first)));
    twist = mixed(Lanes::exclusive(Lanes::multiply(rows, Lanes::words(kStride)), Lanes::words(plan.keys.second)));
  }
};

// All but the last step, h ^ h >> 16.
inline Lanes::I unfinished(Lanes::I counter, Lanes::I twist) {
  Lanes::I h = Lanes::multiply(Lanes::exclusive(counter, Lanes::right(counter, 16)), Lanes::words(kMultiply1));
  h = Lanes::exclusive(h, twist);
  return Lanes::multiply(Lanes::exclusive(h, Lanes::right(h, 15)), Lanes::words(kMultiply2));
}

// The words of V vectors of rows, one column after the other.
template <int V>
struct Words {
  Lanes::I counter[V], twist[V];

  Words(const Plan& plan, std::int64_t row) {
    for (int v = 0; v < V; ++v) {
      const Start start(plan, row + v * Lanes::width);
      counter[v] = start.counter;
      twist[v] = start.twist;
    }
  }

  void next(Lanes::I (&h)[V]) {
    for (int v = 0; v < V; ++v) {
      const Lanes::I last = unfinished(counter[v], twist[v]);
      h[v] = Lanes::exclusive(last, Lanes::right(last, 16));
      counter[v] = Lanes::add(counter[v], Lanes::words(kStride));
    }
  }
};

}  // namespace
}  // namespace edgefc::prp
