#include "circulant/plan.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "ort/failure.h"
#include "simd/generator.h"

namespace edgefc::circulant {
namespace {

constexpr int64_t kLargest = INT64_C(1) << 30;     // of a size; twice it and a padded length fit 32 bits
constexpr int64_t kRowsFloats = INT64_C(1) << 20;  // of scratch; longer rows run one by one

// Row 0 of the seeded Rademacher matrix: edgefc/generator/README.md.
std::vector<float> seeded_signs(uint64_t seed, int64_t count) {
  std::vector<float> signs(static_cast<size_t>(count));
  const Keys row = keys(seed);
  uint32_t bits = 0;
  for (int64_t t = 0; t < count; ++t, bits >>= 1) {
    if (t % 32 == 0) bits = word(row, 0, static_cast<uint32_t>(t / 32));
    signs[static_cast<size_t>(t)] = bits & 1 ? -1.0f : 1.0f;
  }
  return signs;
}

// Inputs from this size on could overflow in a transform.
float largest_input(const std::vector<float>& kernel, int64_t inputs) {
  double total = 1;
  for (const float k : kernel) total += std::fabs(static_cast<double>(k));
  const double limit = std::ldexp(1.0, 120) / (total * static_cast<double>(inputs));
  return std::isfinite(total) ? static_cast<float>(std::min(limit, 1e30)) : 0;
}

Job checked(const Plan::Sizes& sizes, int64_t kernel_count) {
  const int64_t n = sizes.inputs, m = sizes.outputs, b = sizes.block;
  const auto given = [&] {
    return std::to_string(n) + " inputs, " + std::to_string(m) + " outputs, blocks of " + std::to_string(b);
  };
  if (n < 1 || m < 1 || b < 1 || n > kLargest || m > kLargest || b > std::max(n, m)) {
    throw Failure("A circulant layer needs sizes from 1 to 2^30 and blocks no longer than its longer side, not " +
                  given() + ".");
  }
  Job job = {};
  job.n = n, job.m = m, job.b = b, job.p = up(m, b), job.q = up(n, b);
  if (kernel_count / b / job.q != job.p || kernel_count != job.p * job.q * b) {  // p q b < 2^62: no overflow
    throw Failure("A circulant layer of " + given() + " has " + std::to_string(job.p * job.q) +
                  " blocks in its kernel, not " + std::to_string(kernel_count) + " numbers.");
  }
  return job;
}

}  // namespace

Plan::Plan(const Sizes& sizes, const float* kernel, int64_t kernel_count)
    : variant_(variant()),
      sizes_(checked(sizes, kernel_count)),
      signs_(seeded_signs(sizes.sign_seed, sizes.inputs)),
      kernel_(kernel, kernel + kernel_count),
      limit_(largest_input(kernel_, sizes.inputs)) {
  sizes_.signs = signs_.data();
  choose_single(kernel);
  measure_rows();
}

void Plan::choose_single(const float* kernel) {
  double least_cost = INFINITY;
  const Variant::Single* chosen = nullptr;
  Program program;
  for (const Variant::Single* each = variant_.singles; each->width; ++each) {
    Program candidate = best_program(sizes_, each->width, true);
    const double c = form_cost(sizes_, candidate, each->width, true);
    if (c < least_cost) least_cost = c, chosen = each, program = std::move(candidate);
  }
  row_ = chosen->row;
  set_up(single_, sizes_, chosen->width, true, std::move(program));
  single_spectrum(single_, kernel);
}

void Plan::measure_rows() {
  const int64_t width = variant_.width, vectors = sizes_.p * sizes_.q == 1 ? 1 : sizes_.p + sizes_.q;
  rows_program_ = best_program(sizes_, variant_.width, false);
  rows_cost_ = form_cost(sizes_, rows_program_, variant_.width, false);
  rows_length_ = rows_program_.length;
  rows_floats_ = vectors * (rows_length_ + 1) * width;
}

const Form* Plan::rows_form() const {
  const std::lock_guard<std::mutex> lock(making_);
  if (rows_tried_) return rows_.get();
  rows_tried_ = true;
  try {
    auto form = std::make_unique<Form>();
    set_up(*form, sizes_, variant_.width, false, std::move(rows_program_));
    rows_spectrum(*form, kernel_.data());
    rows_ = std::move(form);
  } catch (const std::bad_alloc&) {  // then rows run one by one
  }
  return rows_.get();
}

bool Plan::together(int64_t rows) const {
  return rows > 1 && rows_floats_ <= kRowsFloats && static_cast<double>(rows) * single_.cost > rows_cost_;
}

void Plan::apply(const float* x, int64_t rows, float* y, const float* bias, Scratch& scratch) const {
  const int64_t n = sizes_.n, m = sizes_.m, width = single_.width;
  const Form* many = together(std::min<int64_t>(rows, variant_.width)) ? rows_form() : nullptr;
  const Job& one = single_.job;
  const int64_t floats = one.length + (one.q + 1) * (2 * one.groups * width + one.reals) * width;
  const Scratch::Loan loan(scratch, static_cast<std::size_t>(many ? std::max(floats, rows_floats_) : floats));
  for (int64_t r = 0; r < rows;) {
    const int64_t count = std::min<int64_t>(rows - r, variant_.width), taken = many && together(count) ? count : 1;
    const float* in = x + r * n;
    float* out = y + r * m;
    if (taken > 1) variant_.rows(many->job, in, taken, out, bias, loan.data());
    for (int64_t k = 0; k < taken; ++k) {
      if (!variant_.within(in + k * n, n, limit_)) direct(in + k * n, out + k * m, bias);
      else if (taken == 1) row_(one, in, out, bias, loan.data());
    }
    r += taken;
  }
}

// y[i] = sum of kernel[block of i and j][(i - j) mod b] signs[j] x[j], in double, then rounded like a sum of floats.
void Plan::direct(const float* x, float* y, const float* bias) const {
  const int64_t b = sizes_.b;
  for (int64_t i = 0; i < sizes_.m; ++i) {
    double sum = bias ? bias[i] : 0;
    for (int64_t j = 0; j < sizes_.n; ++j) {
      const int64_t shift = (i % b + b - j % b) % b;
      sum += static_cast<double>(kernel_[(i / b * sizes_.q + j / b) * b + shift]) * (signs_[j] * x[j]);
    }
    y[i] = static_cast<float>(sum);
  }
}

int64_t Plan::rows_together() const {
  return rows_floats_ <= kRowsFloats && rows_cost_ < 0.7 * variant_.width * single_.cost ? variant_.width : 1;
}

std::string Plan::describe() const {
  return "one row: length " + std::to_string(single_.job.length) + " in vectors of " + std::to_string(single_.width) +
         "; " + std::to_string(variant_.width) + " rows: length " + std::to_string(rows_length_);
}

}  // namespace edgefc::circulant
