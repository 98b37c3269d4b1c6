// The form of a circulant layer: the length and steps of the transform, and the spectrum of the kernel in their order.
#pragma once

#include <cstdint>
#include <vector>

#include "circulant/circulant.h"
#include "circulant/fft.h"
#include "ort/memory.h"

namespace edgefc::circulant {

inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One form of the layer: with steps on single numbers (many rows) or on `width` neighbouring inputs (one row).
struct Form {
  int width = 0;
  Program program;
  std::vector<int64_t> leaf_at, real_at;
  Floats lane_factors, spectrum;
  Job job = {};
  double cost = 0;
};

// The cost of one row in the single form, or of `width` rows in the other, in units of a few vector operations: the
// transforms in both directions and the products. The constants come from measurements.
double form_cost(const Job& job, const Program& program, int width, bool single);

// The cheapest length for elements of `width` coefficients: the block itself, or a linear convolution.
Program best_program(const Job& job, int width, bool single);

// `sizes` has everything that does not follow from the steps. One of the two functions below then sets the spectrum.
void set_up(Form& form, const Job& sizes, int width, bool single, Program program);

// The spectrum of kernel (p, q, b) in the order of circulant.h, computed in double and rounded once. Then releases the
// factors in double.
void rows_spectrum(Form& form, const float* kernel);
void single_spectrum(Form& form, const float* kernel);

}  // namespace edgefc::circulant
