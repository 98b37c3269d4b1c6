// Spectra of circulant kernels, in double and in plain C++, with the same steps as the transforms of the kernels.
#include <cmath>

#include "circulant/form.h"
#include "simd/portable.h"

namespace edgefc::circulant {
namespace {

// W numbers for lanes_transform. The steps before it run on plain doubles.
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
V fill(double s) {
  V v;
  double* lane = reinterpret_cast<double*>(&v);
  for (size_t i = 0; i < sizeof(V) / sizeof(double); ++i) lane[i] = s;
  return v;
}

}  // namespace
}  // namespace edgefc::circulant

#include "circulant/steps.h"  // uses fill() from above

namespace edgefc::circulant {
namespace {

// The first column of the cyclic convolution that contains block (i, j).
void fill_column(const Job& job, const float* kernel, std::vector<double>& column) {
  const int64_t outputs = job.m < job.b ? job.m : job.b, inputs = job.n < job.b ? job.n : job.b;
  if (job.length == job.b) {
    column.assign(kernel, kernel + job.b);
    return;
  }
  column.assign(static_cast<size_t>(job.length), 0.0);
  for (int64_t t = 0; t < outputs; ++t) column[t] = kernel[t];
  for (int64_t t = 1; t < inputs; ++t) column[job.length - t] = kernel[job.b - t];
}

// Factors of lanes_transform for W leaves, one per lane: (W - 1, 2) vectors.
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
void single_spectrum_of(Form& form, const float* kernel) {
  using V = Doubles<W>;
  Job& job = form.job;
  std::vector<V> w(static_cast<size_t>(job.groups * 2 * (W - 1)));
  std::vector<double> turns(static_cast<size_t>(job.groups * W), 0.0);
  for (int64_t l = 0; l < job.groups * W; ++l)
    turns[l] = form.program.leaves[l < job.leaves ? l : job.leaves - 1].turn;
  form.lane_factors = Floats(w.size() * W + 1);
  for (int64_t g = 0; g < job.groups; ++g) lane_factors<W>(&turns[g * W], &w[g * 2 * (W - 1)]);
  for (size_t k = 0; k < w.size(); ++k)
    for (int lane = 0; lane < W; ++lane) form.lane_factors.data()[k * W + lane] = static_cast<float>(w[k].lane[lane]);
  job.lane_factors = form.lane_factors.data();

  const int64_t points = job.groups * W, per_row = 2 * W * job.q * (points + job.reals);
  form.spectrum = Floats(static_cast<std::size_t>(job.p * per_row));
  job.spectrum = form.spectrum.data();
  std::vector<double> column, parts(static_cast<size_t>(job.length));
  for (int64_t block = 0; block < job.p * job.q; ++block) {
    const int64_t i = block / job.q, j = block % job.q;
    fill_column(job, kernel + block * job.b, column);
    // Every W-th coefficient separately: one instance of the steps, on plain numbers, works for all widths.
    const int64_t count = job.length / W;
    for (int c = 0; c < W; ++c) {
      double* part = parts.data() + c * count;
      for (int64_t k = 0; k < count; ++k) part[k] = column[k * W + c];
      run_forward<double, double>(job.steps, job.step_count, form.program.factors.data(), part);
    }
    float* h = form.spectrum.data() + i * per_row + 2 * W * j;
    for (int64_t g = 0; g < job.groups; ++g) {
      V re[W], im[W];
      for (int lane = 0; lane < W; ++lane) {
        const int64_t leaf = g * W + lane < job.leaves ? g * W + lane : job.leaves - 1;
        for (int c = 0; c < W; ++c) {
          re[c].lane[lane] = parts[c * count + job.leaf_at[2 * leaf]];
          im[c].lane[lane] = parts[c * count + job.leaf_at[2 * leaf + 1]];
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
        const double value = parts[d * count + job.real_at[l]] * W / job.length;
        h[W + d] = static_cast<float>(value);
        h[d] = static_cast<float>(value * form.program.real_leaves[l].sign);
      }
    }
  }
}

}  // namespace

void rows_spectrum(Form& form, const float* kernel) {
  const Job& job = form.job;
  const int64_t blocks = job.p * job.q;
  form.spectrum = Floats(static_cast<std::size_t>(blocks * (2 * job.leaves + job.reals)));
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
  form.job.spectrum = form.spectrum.data();
  std::vector<double>().swap(form.program.factors);
}

void single_spectrum(Form& form, const float* kernel) {
  switch (form.width) {
    case 16: single_spectrum_of<16>(form, kernel); break;
    case 8: single_spectrum_of<8>(form, kernel); break;
    default: single_spectrum_of<4>(form, kernel); break;
  }
  std::vector<double>().swap(form.program.factors);
}

}  // namespace edgefc::circulant
