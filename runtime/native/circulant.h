// CirculantLinear: y = R D x + bias, R the first m rows and n columns of p x q circulant blocks, D seeded signs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace edgefc {

// Spectra of one kernel and what applies them. Safe to share among threads.
class CirculantPlan {
 public:
  struct Sizes {
    int64_t inputs, outputs, block;
    uint64_t sign_seed;
  };

  // kernel: (ceil(outputs / block), ceil(inputs / block), block), kernel_count numbers in all, copied.
  // Null and a sentence in *error where sizes, their product or memory will not do, or where EDGEFC_NATIVE_CPU names
  // instructions that this processor lacks.
  static std::unique_ptr<CirculantPlan> create(const Sizes& sizes, const float* kernel, int64_t kernel_count,
                                               std::string* error);
  ~CirculantPlan();

  // x (rows, inputs) -> y (rows, outputs); bias (outputs) or null. Scratch is a few vectors' widths of inputs and
  // outputs, whatever the batch. A row with NaN, infinity, or numbers that a transform could overflow on is summed
  // directly, term by term, and goes where a dense layer sends it. False where there is no memory for scratch.
  bool apply(const float* x, int64_t rows, float* y, const float* bias) const;

  // Multiply-adds per row alone, about, for cutting a batch among threads.
  double operations() const;

  // Rows that one call should have a multiple of: 1 where they are as fast alone.
  int64_t rows_together() const;

  // "avx512, one row: length 4096 in vectors of 16; 16 rows: length 4096"
  std::string describe() const;

 private:
  struct Body;
  explicit CirculantPlan(std::unique_ptr<Body> body);
  std::unique_ptr<Body> body_;
};

}  // namespace edgefc
