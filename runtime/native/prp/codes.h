// Converts codes to levels, with the vectors of a simd/CPU.h. `bits` is the shift of a word from one code to the next.
#pragma once

#include "prp/prp.h"

namespace edgefc::prp {
namespace {

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

// Codes of 8 bits with a codebook of a few runs of equal levels.
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

// Codes of 8 bits with equidistant levels.
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

// Codes of 8 bits with any codebook.
struct Gathered {
  static constexpr int bits = 8;
  const float* levels;
  const Lanes::I mask = Lanes::words(255);

  explicit Gathered(const float* all) : levels(all) {}
  Lanes::I ready(Lanes::I word) const { return word; }
  Lanes::F level(Lanes::I codes) const { return Lanes::gather(Lanes::both(codes, mask), levels); }
};

}  // namespace
}  // namespace edgefc::prp
