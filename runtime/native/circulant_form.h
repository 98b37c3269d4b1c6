// How a circulant layer runs: the transform's length and steps, and the kernel's spectrum in their order.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "circulant_plan.h"

namespace edgefc {

// Floats at an address that vectors of 64 bytes may be read from.
class Aligned {
 public:
  void resize(int64_t count) {
    owned_.reset(static_cast<float*>(::operator new(static_cast<size_t>(count) * sizeof(float), std::align_val_t(64))));
  }
  float* data() { return owned_.get(); }
  const float* data() const { return owned_.get(); }

 private:
  struct Free {
    void operator()(float* p) const { ::operator delete(p, std::align_val_t(64)); }
  };
  std::unique_ptr<float, Free> owned_;
};

inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One way to run the layer: with steps over single numbers (many rows) or over `width` neighbours (one row).
struct Form {
  const CirculantEngine* engine = nullptr;
  Program program;
  std::vector<int64_t> leaf_at, real_at;
  Aligned lane_factors, spectrum;
  CirculantJob job = {};
  double cost = 0;
};

// Cost of one row in the single form, or of `width` rows in the other, in units of a few vector operations: transforms
// there and back, then products. The numbers were read off measurements.
double form_cost(const CirculantJob& job, const Program& program, int width, bool single);

// The cheapest length for elements of `width` coefficients: the block itself, or a linear convolution.
Program best_program(const CirculantJob& job, int width, bool single);

// `sizes` has all that the steps do not settle; the spectrum comes last, by one of the two below.
void set_up(Form& form, const CirculantJob& sizes, const CirculantEngine* engine, bool single, Program program);

// The spectrum of kernel (p, q, b) in circulant_plan.h's order, made in double and rounded once; the factors in double are
// given up then.
void rows_spectrum(Form& form, const float* kernel);
void single_spectrum(Form& form, const float* kernel);

}  // namespace edgefc
