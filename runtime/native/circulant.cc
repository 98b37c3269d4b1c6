#include "circulant.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "circulant_form.h"
#include "generator.h"

namespace edgefc {
namespace {

constexpr int64_t kLargest = INT64_C(1) << 30;      // of a size; twice it and a padded length fit 32 bits
constexpr int64_t kRowsScratch = INT64_C(4) << 20;  // bytes; longer rows go one by one

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

bool has(const char* name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!std::strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (!std::strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
  if (!std::strcmp(name, "neon")) return true;
#endif
  return !std::strcmp(name, "portable");
}

struct Variant {
  const char* name;
  const CirculantEngine* engines;
};

const Variant kVariants[] = {
#if defined(__x86_64__)
    {"avx512", kCirculantAvx512},
    {"avx2", kCirculantAvx2},
#elif defined(__aarch64__)
    {"neon", kCirculantNeon},
#endif
    {"portable", kCirculantPortable},
};

const Variant* choose(std::string* error) {
  const char* choice = std::getenv("EDGEFC_NATIVE_CPU");
  const bool any = !choice || !*choice;
  for (const Variant& variant : kVariants)
    if ((any || !std::strcmp(choice, variant.name)) && has(variant.name)) return &variant;
  *error = std::string("EDGEFC_NATIVE_CPU=") + choice + " is not a kind of this processor.";
  return nullptr;
}

}  // namespace

struct CirculantPlan::Body {
  CirculantJob sizes = {};
  const Variant* variant = nullptr;
  std::vector<float> signs, kernel;
  Form single;
  float limit = 0;
  double rows_cost = 0;  // of a full set of rows
  int64_t rows_length = 0, rows_bytes = 0;
  mutable std::mutex making;  // std::call_once would need a C library of 2021 (glibc 2.34)
  mutable bool rows_tried = false;
  mutable std::unique_ptr<Form> rows;  // made when first needed
  mutable Program rows_program;

  const Form* rows_form() const {
    const std::lock_guard<std::mutex> lock(making);
    if (rows_tried) return rows.get();
    rows_tried = true;
    try {
      auto form = std::make_unique<Form>();
      set_up(*form, sizes, variant->engines, false, std::move(rows_program));
      rows_spectrum(*form, kernel.data());
      rows = std::move(form);
    } catch (const std::bad_alloc&) {  // then rows go one by one
    }
    return rows.get();
  }

  // y[i] = sum of kernel[block of i and j][(i - j) mod b] signs[j] x[j], in double, rounded as a float sum rounds.
  void direct(const float* x, float* y, const float* bias) const {
    const int64_t b = sizes.b;
    for (int64_t i = 0; i < sizes.m; ++i) {
      double sum = bias ? bias[i] : 0;
      for (int64_t j = 0; j < sizes.n; ++j) {
        const int64_t shift = (i % b + b - j % b) % b;
        sum += static_cast<double>(kernel[(i / b * sizes.q + j / b) * b + shift]) * (signs[j] * x[j]);
      }
      y[i] = static_cast<float>(sum);
    }
  }
};

CirculantPlan::CirculantPlan(std::unique_ptr<Body> body) : body_(std::move(body)) {}
CirculantPlan::~CirculantPlan() = default;

std::unique_ptr<CirculantPlan> CirculantPlan::create(const Sizes& sizes, const float* kernel, int64_t kernel_count,
                                                     std::string* error) {
  const int64_t n = sizes.inputs, m = sizes.outputs, b = sizes.block;
  const std::string given =
      std::to_string(n) + " inputs, " + std::to_string(m) + " outputs, blocks of " + std::to_string(b);
  if (n < 1 || m < 1 || b < 1 || n > kLargest || m > kLargest || b > (n > m ? n : m)) {
    *error = "A circulant layer needs sizes from 1 to 2^30 and blocks no longer than its longer side, not " + given +
             ".";
    return nullptr;
  }
  const int64_t p = up(m, b), q = up(n, b);
  if (kernel_count / b / q != p || kernel_count != p * q * b || !kernel) {  // p q b < 2^62: no overflow
    *error = "A circulant layer of " + given + " has " + std::to_string(p * q) + " blocks in its kernel, not " +
             std::to_string(kernel_count) + " numbers.";
    return nullptr;
  }
  try {
    auto body = std::make_unique<Body>();
    body->variant = choose(error);
    if (!body->variant) return nullptr;
    body->signs = seeded_signs(sizes.sign_seed, n);
    body->kernel.assign(kernel, kernel + kernel_count);
    CirculantJob& job = body->sizes;
    job.n = n, job.m = m, job.b = b, job.p = p, job.q = q, job.signs = body->signs.data();

    double total = 1;
    for (const float k : body->kernel) total += std::fabs(static_cast<double>(k));
    const double limit = std::ldexp(1.0, 120) / (total * static_cast<double>(n));
    body->limit = std::isfinite(total) ? static_cast<float>(limit < 1e30 ? limit : 1e30) : 0;

    Form& single = body->single;
    double least_cost = INFINITY;
    const CirculantEngine* engine = nullptr;
    Program program;
    for (const CirculantEngine* e = body->variant->engines; e->width; ++e) {
      Program candidate = best_program(job, e->width, true);
      const double c = form_cost(job, candidate, e->width, true);
      if (c < least_cost) least_cost = c, engine = e, program = std::move(candidate);
    }
    set_up(single, job, engine, true, std::move(program));
    single_spectrum(single, kernel);

    const int width = body->variant->engines->width;
    body->rows_program = best_program(job, width, false);
    body->rows_cost = form_cost(job, body->rows_program, width, false);
    body->rows_length = body->rows_program.length;
    body->rows_bytes = (p * q == 1 ? 1 : p + q) * (body->rows_length + 1) * width * 4;
    return std::unique_ptr<CirculantPlan>(new CirculantPlan(std::move(body)));
  } catch (const std::bad_alloc&) {
    *error = "There is not enough memory for the spectra of a circulant layer of " + given + ".";
    return nullptr;
  }
}

bool CirculantPlan::apply(const float* x, int64_t rows, float* y, const float* bias) const {
  const Body& body = *body_;
  const CirculantJob& job = body.sizes;
  const CirculantEngine& wide = *body.variant->engines;
  const auto together = [&](int64_t count) {
    return count > 1 && body.rows_bytes <= kRowsScratch &&
           static_cast<double>(count) * body.single.cost > body.rows_cost;
  };
  const Form* many = together(rows < wide.width ? rows : wide.width) ? body.rows_form() : nullptr;
  const CirculantJob& one = body.single.job;
  const int64_t w = body.single.engine->width;
  int64_t floats = one.length + (job.q + 1) * (2 * one.groups * w + one.reals) * w;
  if (many && body.rows_bytes / 4 > floats) floats = body.rows_bytes / 4;
  Aligned scratch;
  try {
    scratch.resize(floats);
  } catch (const std::bad_alloc&) {
    return false;
  }
  for (int64_t r = 0; r < rows;) {
    const int64_t left = rows - r, count = left < wide.width ? left : wide.width;
    const int64_t taken = many && together(count) ? count : 1;
    const float* in = x + r * job.n;
    float* out = y + r * job.m;
    if (taken > 1) many->engine->rows(many->job, in, taken, out, bias, scratch.data());
    for (int64_t k = 0; k < taken; ++k) {
      if (!wide.within(in + k * job.n, job.n, body.limit)) body.direct(in + k * job.n, out + k * job.m, bias);
      else if (taken == 1) body.single.engine->single(one, in, out, bias, scratch.data());
    }
    r += taken;
  }
  return true;
}

double CirculantPlan::operations() const { return body_->single.cost * body_->single.engine->width; }

int64_t CirculantPlan::rows_together() const {
  const int width = body_->variant->engines->width;
  return body_->rows_bytes <= kRowsScratch && body_->rows_cost < 0.7 * width * body_->single.cost ? width : 1;
}

std::string CirculantPlan::describe() const {
  const Body& body = *body_;
  const int64_t width = body.variant->engines->width;
  return std::string(body.variant->name) + ", one row: length " + std::to_string(body.single.job.length) +
         " in vectors of " + std::to_string(body.single.engine->width) + "; " + std::to_string(width) +
         " rows: length " + std::to_string(body.rows_length);
}

}  // namespace edgefc
