// One circulant kernel, ready to run: its spectra, and the form for a batch. Threads can share it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "circulant/form.h"

namespace edgefc::circulant {

class Plan {
 public:
  struct Sizes {
    int64_t inputs, outputs, block;
    uint64_t sign_seed;
  };

  // kernel: (ceil(outputs / block), ceil(inputs / block), block), kernel_count numbers in total, copied. Throws Failure
  // if the sizes are invalid or do not match kernel_count.
  Plan(const Sizes& sizes, const float* kernel, int64_t kernel_count);

  // x (rows, inputs) -> y (rows, outputs); bias (outputs) or null. Scratch is inputs and outputs times a few vector
  // widths, for any batch. A row with NaN, infinity, or numbers that could overflow in a transform is summed directly,
  // term by term, with the same result as in a dense layer.
  void apply(const float* x, int64_t rows, float* y, const float* bias, Scratch& scratch) const;

  // The approximate number of multiply-adds for a single row, to divide a batch among threads.
  double operations() const { return single_.cost * single_.width; }

  // The number of rows in one call should be a multiple of this: 1 if single rows are as fast.
  int64_t rows_together() const;

  // "one row: length 4096 in vectors of 16; 16 rows: length 4096"
  std::string describe() const;

 private:
  void choose_single(const float* kernel);
  void measure_rows();
  bool together(int64_t rows) const;
  const Form* rows_form() const;
  void direct(const float* x, float* y, const float* bias) const;

  const Variant& variant_;
  Job sizes_ = {};
  std::vector<float> signs_, kernel_;
  float limit_ = 0;
  Form single_;
  void (*row_)(const Job&, const float*, float*, const float*, float*) = nullptr;  // for single_
  double rows_cost_ = 0;  // of a full set of rows
  int64_t rows_length_ = 0, rows_floats_ = 0;
  mutable std::mutex making_;  // std::call_once would need a C library of 2021 (glibc 2.34)
  mutable bool rows_tried_ = false;
  mutable std::unique_ptr<Form> rows_;  // made when first needed
  mutable Program rows_program_;
};

}  // namespace edgefc::circulant
