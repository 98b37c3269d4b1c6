#include "circulant.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "circulant_plan.h"

namespace edgefc {
namespace {

constexpr int64_t kLargest = INT64_C(1) << 30;      // of a size; twice it and a padded length fit 32 bits
constexpr int64_t kRowsScratch = INT64_C(4) << 20;  // bytes; longer rows go one by one
constexpr int kCandidates = 6;                      // lengths that are compared

// Kernel spectra are made in double, in plain C++: elements of one number, or of W neighbouring coefficients.
template <int W>
struct Doubles {
  double lane[W];
  friend Doubles operator+(Doubles a, const Doubles& b) {
    for (int i = 0; i < W; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  friend Doubles operator-(Doubles a, const Doubles& b) {
    for (int i = 0; i < W; ++i) a.lane[i] -= b.lane[i];
    return a;
  }
  friend Doubles operator*(Doubles a, const Doubles& b) {
    for (int i = 0; i < W; ++i) a.lane[i] *= b.lane[i];
    return a;
  }
};

template <class V>
V mul_add(const V& a, const V& b, const V& c) {
  return a * b + c;
}
template <class V>
V mul_sub(const V& a, const V& b, const V& c) {
  return a * b - c;
}
template <class V>
V neg_mul_add(const V& a, const V& b, const V& c) {
  return c - a * b;
}
template <class V>
V fill(double s) {
  V v;
  double* lane = reinterpret_cast<double*>(&v);
  for (size_t i = 0; i < sizeof(V) / sizeof(double); ++i) lane[i] = s;
  return v;
}

#include "circulant_steps.h"

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

int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

uint32_t mix(uint32_t h) {
  h = (h ^ h >> 16) * 0x21F0AAADu;
  h = (h ^ h >> 15) * 0x735A2D97u;
  return h ^ h >> 15;
}

// Row 0 of the seeded Rademacher matrix: edgefc/generator/README.md.
std::vector<float> seeded_signs(uint64_t seed, int64_t count) {
  uint32_t low = static_cast<uint32_t>(seed), high = static_cast<uint32_t>(seed >> 32);
  low ^= mix(high + 0x85EBCA6Bu);
  high ^= mix(low + 0xC2B2AE35u);
  low ^= mix(high + 0x27D4EB2Fu);
  const uint32_t start = mix(low), twist = mix(high);
  std::vector<float> signs(static_cast<size_t>(count));
  for (int64_t t = 0; t < count; ++t) {
    uint32_t h = start + static_cast<uint32_t>(t / 32) * 0x9E3779B9u;
    h = (h ^ h >> 16) * 0x21F0AAADu ^ twist;
    h = (h ^ h >> 15) * 0x735A2D97u;
    signs[t] = (h ^ h >> 16) >> t % 32 & 1 ? -1.0f : 1.0f;
  }
  return signs;
}

// One way to run the layer: with steps over single numbers (many rows) or over `width` neighbours (one row).
struct Form {
  const CirculantEngine* engine = nullptr;
  Program program;
  std::vector<int64_t> leaf_at, real_at;
  std::vector<double> lane_turns;
  Aligned lane_factors, spectrum;
  CirculantJob job = {};
  double cost = 0;
};

// Cost of one row in the single form, or of `width` rows in the other, in units of a few vector operations: transforms
// there and back, then products. The numbers were read off measurements.
double form_cost(const CirculantJob& job, const Program& program, int width, bool single) {
  const double ends = static_cast<double>(job.p + job.q) / 2, blocks = static_cast<double>(job.p) * job.q;
  const double length = static_cast<double>(program.length);
  const double vectors = std::ceil(static_cast<double>(program.leaves.size()) / width) * width;
  const double reals = static_cast<double>(program.real_leaves.size());
  const double sum = single ? ends * (cost(program) + vectors * 32) + blocks * (vectors * 6 + reals * width * 3)
                            : 0.8 * (ends * (cost(program) + 12 * length) + 3 * blocks * length);
  return sum * (width == 16 ? 1.0 : width == 8 ? 0.65 : 0.5);  // wide vectors cost more than narrow ones
}

// The cheapest length for elements of `width` coefficients: the block itself, or a linear convolution.
Program best_program(const CirculantJob& job, int width, bool single) {
  Program best;
  double least_cost = INFINITY;
  const auto consider = [&](int64_t elements) {
    Program program = make_program(elements);
    const double c = form_cost(job, program, width, single);
    if (c < least_cost) least_cost = c, best = std::move(program);
  };
  const int64_t unit = single ? width : 1;
  if (job.b % unit == 0 && smooth(job.b / unit)) consider(job.b / unit);
  const int64_t linear = up((job.n < job.b ? job.n : job.b) + (job.m < job.b ? job.m : job.b) - 1, unit);
  if (best.length && linear > best.length * 5 / 4) return best;
  int found = 0;
  for (int64_t elements = linear; found < kCandidates; ++elements) {
    if (elements >= 32 && elements % (elements < 256 ? 4 : 16)) continue;
    if (smooth(elements)) consider(elements), ++found;
  }
  return best;
}

// The first column of the cyclic convolution that has block (i, j) in it.
void fill_column(const CirculantJob& job, const float* kernel, std::vector<double>& column) {
  const int64_t outputs = job.m < job.b ? job.m : job.b, inputs = job.n < job.b ? job.n : job.b;
  if (job.length == job.b) {
    column.assign(kernel, kernel + job.b);
    return;
  }
  column.assign(static_cast<size_t>(job.length), 0.0);
  for (int64_t t = 0; t < outputs; ++t) column[t] = kernel[t];
  for (int64_t t = 1; t < inputs; ++t) column[job.length - t] = kernel[job.b - t];
}

void rows_spectrum(Form& form, const float* kernel) {
  const CirculantJob& job = form.job;
  const int64_t blocks = job.p * job.q;
  form.spectrum.resize(blocks * (2 * job.leaves + job.reals));
  std::vector<double> column;
  for (int64_t block = 0; block < blocks; ++block) {
    fill_column(job, kernel + block * job.b, column);
    run_forward<double, double>(job.steps, job.step_count, form.program.factors.data(), column.data());
    float* h = form.spectrum.data() + 2 * block;
    for (int64_t l = 0; l < job.leaves; ++l, h += 2 * blocks) {
      h[0] = static_cast<float>(column[job.leaf_at[2 * l]] * 2 / job.length);
      h[1] = static_cast<float>(column[job.leaf_at[2 * l + 1]] * 2 / job.length);
    }
    h += block - 2 * block;
    for (int64_t l = 0; l < job.reals; ++l, h += blocks)
      *h = static_cast<float>(column[job.real_at[l]] / job.length);
  }
}

// Factors of lanes_transform for W leaves, one a lane: (W - 1, 2) vectors.
template <int W>
void lane_factors(const double* turns, Doubles<W>* w) {
  const double circle = 2 * std::acos(-1.0);
  for (int lane = 0; lane < W; ++lane) {
    int at = 0;
    const auto push = [&](double turn) {
      w[at++].lane[lane] = std::cos(circle * turn);
      w[at++].lane[lane] = std::sin(circle * turn);
    };
    for (int j = 1; j < 4; ++j) push(turns[lane] * j / 4);
    for (int k = 0; k < 4; ++k)
      for (int j = 1; j < W / 4; ++j) push((turns[lane] + k) / 4 * j / (W / 4));
  }
}

template <int W>
void single_spectrum(Form& form, const float* kernel) {
  using V = Doubles<W>;
  CirculantJob& job = form.job;
  std::vector<V> w(static_cast<size_t>(job.groups * 2 * (W - 1)));
  std::vector<double> turns(static_cast<size_t>(job.groups * W), 0.0);
  for (int64_t l = 0; l < job.groups * W; ++l)
    turns[l] = form.program.leaves[l < job.leaves ? l : job.leaves - 1].turn;
  form.lane_factors.resize(static_cast<int64_t>(w.size()) * W + 1);
  for (int64_t g = 0; g < job.groups; ++g) lane_factors<W>(&turns[g * W], &w[g * 2 * (W - 1)]);
  for (size_t k = 0; k < w.size(); ++k)
    for (int lane = 0; lane < W; ++lane) form.lane_factors.data()[k * W + lane] = static_cast<float>(w[k].lane[lane]);
  job.lane_factors = form.lane_factors.data();

  const int64_t points = job.groups * W, per_row = 2 * W * job.q * (points + job.reals);
  form.spectrum.resize(job.p * per_row);
  job.spectrum = form.spectrum.data();
  std::vector<double> column;
  for (int64_t block = 0; block < job.p * job.q; ++block) {
    const int64_t i = block / job.q, j = block % job.q;
    fill_column(job, kernel + block * job.b, column);
    std::vector<V> data(static_cast<size_t>(job.length / W));
    std::memcpy(static_cast<void*>(data.data()), column.data(), column.size() * sizeof(double));
    run_forward<V, double>(job.steps, job.step_count, form.program.factors.data(), data.data());
    float* h = form.spectrum.data() + i * per_row + 2 * W * j;
    for (int64_t g = 0; g < job.groups; ++g) {
      V re[W], im[W];
      for (int lane = 0; lane < W; ++lane) {
        const int64_t leaf = g * W + lane < job.leaves ? g * W + lane : job.leaves - 1;
        for (int c = 0; c < W; ++c) {
          re[c].lane[lane] = data[job.leaf_at[2 * leaf]].lane[c];
          im[c].lane[lane] = data[job.leaf_at[2 * leaf + 1]].lane[c];
        }
      }
      lanes_transform<W, V, true>(re, im, &w[g * 2 * (W - 1)]);
      for (int c = 0; c < W; ++c, h += 2 * W * job.q) {
        for (int lane = 0; lane < W; ++lane) {
          h[lane] = static_cast<float>(re[c].lane[lane] * 2 / job.length);
          h[W + lane] = static_cast<float>(im[c].lane[lane] * 2 / job.length);
        }
      }
    }
    for (int64_t l = 0; l < job.reals; ++l, h += 2 * W * job.q) {
      for (int d = 0; d < W; ++d) {
        const double value = data[job.real_at[l]].lane[d] * W / job.length;
        h[W + d] = static_cast<float>(value);
        h[d] = static_cast<float>(value * form.program.real_leaves[l].sign);
      }
    }
  }
}

void set_up(Form& form, const CirculantJob& sizes, const CirculantEngine* engine, bool single, Program program) {
  form.engine = engine;
  form.program = std::move(program);
  form.cost = form_cost(sizes, form.program, engine->width, single);
  for (const Leaf& leaf : form.program.leaves) form.leaf_at.push_back(leaf.re), form.leaf_at.push_back(leaf.im);
  for (const RealLeaf& leaf : form.program.real_leaves) form.real_at.push_back(leaf.at);
  CirculantJob& job = form.job;
  job = sizes;
  job.length = form.program.length * (single ? engine->width : 1);
  job.steps = form.program.steps.data();
  job.step_count = static_cast<int64_t>(form.program.steps.size());
  job.factors = form.program.factors32.data();
  job.leaf_at = form.leaf_at.data();
  job.leaves = static_cast<int64_t>(form.program.leaves.size());
  job.real_at = form.real_at.data();
  job.reals = static_cast<int64_t>(form.program.real_leaves.size());
  job.groups = single ? up(job.leaves, engine->width) : 0;
}

void forget_doubles(Form& form) { std::vector<double>().swap(form.program.factors); }

bool has(const char* name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!std::strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (!std::strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
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
  mutable std::once_flag rows_made;
  mutable std::unique_ptr<Form> rows;  // made when first needed
  mutable Program rows_program;

  const Form* rows_form() const {
    std::call_once(rows_made, [this] {
      try {
        auto form = std::make_unique<Form>();
        set_up(*form, sizes, variant->engines, false, std::move(rows_program));
        rows_spectrum(*form, kernel.data());
        form->job.spectrum = form->spectrum.data();
        forget_doubles(*form);
        rows = std::move(form);
      } catch (const std::bad_alloc&) {  // then rows go one by one
      }
    });
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
    if (engine->width == 16) single_spectrum<16>(single, kernel);
    else if (engine->width == 8) single_spectrum<8>(single, kernel);
    else single_spectrum<4>(single, kernel);
    forget_doubles(single);

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
