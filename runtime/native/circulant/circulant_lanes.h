// The circulant kernel with vectors of W floats (simd/vectors.h); compiled, and local to its file, as in prp_lanes.h.
//
// Many rows: W rows side by side, one per lane, in one transform of the whole length.
// One row: W neighbouring inputs side by side. The steps split u^(length / W) - 1 with u = z^W. Each remaining node,
// z^W - w, is transposed into its own lane, so that its last log2(W) halvings are vector arithmetic too.
#pragma once

#include "simd/vectors.h"

#include "circulant/circulant.h"
#include "circulant/steps.h"

namespace edgefc::circulant {
namespace {

EDGEFC_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

constexpr int64_t kTerms = 64;  // terms per partial sum in a long sum over blocks, to limit rounding errors

template <int W>
static void single_forward(const Job& job, int64_t j, const float* x, float* data, float* points) {
  using V = VectorOf<W>;
  const int64_t count = least(job.b, job.n - j * job.b);
  const float* in = x + j * job.b;
  const float* signs = job.signs + j * job.b;
  int64_t t = 0;
  for (; t + W <= count; t += W) store<W>(data + t, load<W>(in + t) * load<W>(signs + t));
  for (; t < count; ++t) data[t] = in[t] * signs[t];
  for (; t < job.length; ++t) data[t] = 0;
  V* vectors = reinterpret_cast<V*>(data);
  run_forward<V, float>(job.steps, job.step_count, job.factors, vectors);
  const V* w = reinterpret_cast<const V*>(job.lane_factors);
  for (int64_t g = 0; g < job.groups; ++g, w += 2 * (W - 1)) {
    V re[W], im[W];
    for (int lane = 0; lane < W; ++lane) {
      const int64_t leaf = least(g * W + lane, job.leaves - 1);  // the last lanes of the last group repeat a leaf
      re[lane] = vectors[job.leaf_at[2 * leaf]], im[lane] = vectors[job.leaf_at[2 * leaf + 1]];
    }
    transpose<W>(re), transpose<W>(im);
    lanes_transform<W, V, true>(re, im, w);
    V* out = reinterpret_cast<V*>(points) + 2 * (g * W * job.q + j);
    for (int c = 0; c < W; ++c) out[2 * c * job.q] = re[c], out[2 * c * job.q + 1] = im[c];
  }
  V* out = reinterpret_cast<V*>(points) + 2 * job.groups * W * job.q;
  for (int64_t l = 0; l < job.reals; ++l) out[l * job.q + j] = vectors[job.real_at[l]];
}

// Outputs of block row i: products with the spectrum, summed over q, then the inverse transform.
template <int W>
static void single_inverse(const Job& job, int64_t i, const float* points, float* data) {
  using V = VectorOf<W>;
  V* vectors = reinterpret_cast<V*>(data);
  const int64_t q = job.q, per_row = job.groups * W * q;
  const V* x = reinterpret_cast<const V*>(points);
  const V* h = reinterpret_cast<const V*>(job.spectrum) + 2 * i * (per_row + job.reals * q);
  const V* w = reinterpret_cast<const V*>(job.lane_factors);
  for (int64_t g = 0; g < job.groups; ++g, w += 2 * (W - 1)) {
    V re[W], im[W];
    for (int c = 0; c < W; ++c) {
      re[c] = im[c] = V{};
      for (int64_t first = 0; first < q; first += kTerms) {
        V re_1 = V{}, re_2 = V{}, im_1 = V{}, im_2 = V{};
        for (int64_t j = first; j < least(q, first + kTerms); ++j) {
          const V xr = x[2 * j], xi = x[2 * j + 1], hr = h[2 * j], hi = h[2 * j + 1];
          re_1 = mul_add(xr, hr, re_1), re_2 = mul_add(xi, hi, re_2);
          im_1 = mul_add(xr, hi, im_1), im_2 = mul_add(xi, hr, im_2);
        }
        re[c] = re[c] + (re_1 - re_2), im[c] = im[c] + (im_1 + im_2);
      }
      x += 2 * q, h += 2 * q;
    }
    lanes_transform<W, V, false>(re, im, w);
    transpose<W>(re), transpose<W>(im);
    const int64_t lanes = least(W, job.leaves - g * W);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t* at = job.leaf_at + 2 * (g * W + lane);
      vectors[at[0]] = re[lane], vectors[at[1]] = im[lane];
    }
  }
  for (int64_t l = 0; l < job.reals; ++l) {
    V total = V{};
    const float* in = reinterpret_cast<const float*>(x + l * q);
    const float* kernel = reinterpret_cast<const float*>(h + 2 * l * q);
    for (int64_t first = 0; first < q; first += kTerms) {
      V sum_1 = V{}, sum_2 = V{};
      for (int64_t j = first; j < least(q, first + kTerms); ++j, in += W, kernel += 2 * W) {
        for (int c = 0; c < W; c += 2) {
          sum_1 = mul_add(load<W>(kernel + W - c), fill<V>(in[c]), sum_1);
          sum_2 = mul_add(load<W>(kernel + W - c - 1), fill<V>(in[c + 1]), sum_2);
        }
      }
      total = total + (sum_1 + sum_2);
    }
    vectors[job.real_at[l]] = total;
  }
  run_inverse<V, float>(job.steps, job.step_count, job.factors, vectors);
}

template <int W>
static void single_row(const Job& job, const float* x, float* y, const float* bias, float* scratch) {
  float* data = scratch;
  float* points = scratch + job.length;
  for (int64_t j = 0; j < job.q; ++j) single_forward<W>(job, j, x, data, points);
  for (int64_t i = 0; i < job.p; ++i) {
    single_inverse<W>(job, i, points, data);
    const int64_t count = least(job.b, job.m - i * job.b);
    float* out = y + i * job.b;
    int64_t t = 0;
    if (bias) {
      const float* add = bias + i * job.b;
      for (; t + W <= count; t += W) store<W>(out + t, load<W>(data + t) + load<W>(add + t));
      for (; t < count; ++t) out[t] = data[t] + add[t];
    } else {
      for (; t + W <= count; t += W) store<W>(out + t, load<W>(data + t));
      for (; t < count; ++t) out[t] = data[t];
    }
  }
}

// Columns of block j of up to W rows, times the signs, one row per lane; zeros in unused lanes and after the block.
template <int W>
static void gather_rows(const Job& job, int64_t j, const float* x, int64_t rows, float* data) {
  using V = VectorOf<W>;
  const int64_t count = least(job.b, job.n - j * job.b);
  const float* in = x + j * job.b;
  const float* signs = job.signs + j * job.b;
  V* out = reinterpret_cast<V*>(data);
  int64_t t = 0;
  for (; t + W <= count; t += W) {
    const V sign = load<W>(signs + t);
    V v[W];
    for (int r = 0; r < W; ++r) v[r] = r < rows ? load<W>(in + r * job.n + t) * sign : V{};
    transpose<W>(v);
    for (int c = 0; c < W; ++c) out[t + c] = v[c];
  }
  for (; t < count; ++t)
    for (int r = 0; r < W; ++r) data[t * W + r] = r < rows ? in[r * job.n + t] * signs[t] : 0;
  for (; t < job.length; ++t) out[t] = V{};
}

template <int W>
static void scatter_rows(const Job& job, int64_t i, const float* data, int64_t rows, float* y,
                         const float* bias) {
  using V = VectorOf<W>;
  const int64_t count = least(job.b, job.m - i * job.b);
  float* out = y + i * job.b;
  const float* add = bias ? bias + i * job.b : nullptr;
  const V* in = reinterpret_cast<const V*>(data);
  int64_t t = 0;
  for (; t + W <= count; t += W) {
    const V shift = add ? load<W>(add + t) : V{};
    V v[W];
    for (int c = 0; c < W; ++c) v[c] = in[t + c];
    transpose<W>(v);
    for (int r = 0; r < rows; ++r) store<W>(out + r * job.m + t, v[r] + shift);
  }
  for (; t < count; ++t)
    for (int r = 0; r < rows; ++r) out[r * job.m + t] = data[t * W + r] + (add ? add[t] : 0);
}

// kTile block rows for one value of the spectrum: y_i = sum over j of h_ij x_j.
template <int kTile, class V>
EDGEFC_INLINE void complex_products(const V* x, int64_t stride, int64_t q, const float* h, V* y, const int64_t* at) {
  V re_total[kTile], im_total[kTile];
  for (int i = 0; i < kTile; ++i) re_total[i] = im_total[i] = V{};
  for (int64_t first = 0; first < q; first += kTerms) {
    V re[kTile], im[kTile];
    for (int i = 0; i < kTile; ++i) re[i] = im[i] = V{};
    for (int64_t j = first; j < least(q, first + kTerms); ++j) {
      const V xr = x[j * stride + at[0]], xi = x[j * stride + at[1]];
      for (int i = 0; i < kTile; ++i) {
        const V hr = fill<V>(h[2 * (i * q + j)]), hi = fill<V>(h[2 * (i * q + j) + 1]);
        re[i] = neg_mul_add(xi, hi, mul_add(xr, hr, re[i]));
        im[i] = mul_add(xi, hr, mul_add(xr, hi, im[i]));
      }
    }
    for (int i = 0; i < kTile; ++i) re_total[i] = re_total[i] + re[i], im_total[i] = im_total[i] + im[i];
  }
  for (int i = 0; i < kTile; ++i) y[i * stride + at[0]] = re_total[i], y[i * stride + at[1]] = im_total[i];
}

template <int kTile, class V>
EDGEFC_INLINE void real_products(const V* x, int64_t stride, int64_t q, const float* h, V* y) {
  V total[kTile];
  for (int i = 0; i < kTile; ++i) total[i] = V{};
  for (int64_t first = 0; first < q; first += kTerms) {
    V sum[kTile];
    for (int i = 0; i < kTile; ++i) sum[i] = V{};
    for (int64_t j = first; j < least(q, first + kTerms); ++j)
      for (int i = 0; i < kTile; ++i) sum[i] = mul_add(x[j * stride], fill<V>(h[i * q + j]), sum[i]);
    for (int i = 0; i < kTile; ++i) total[i] = total[i] + sum[i];
  }
  for (int i = 0; i < kTile; ++i) y[i * stride] = total[i];
}

template <int W>
static void rows_products(const Job& job, const float* from, float* to) {
  using V = VectorOf<W>;
  const V* x = reinterpret_cast<const V*>(from);
  V* y = reinterpret_cast<V*>(to);
  const int64_t stride = job.length + 1, p = job.p, q = job.q;
  const float* h = job.spectrum;
  for (int64_t l = 0; l < job.leaves; ++l, h += 2 * p * q) {
    int64_t i = 0;
    for (; i + 4 <= p; i += 4)
      complex_products<4>(x, stride, q, h + 2 * i * q, y + i * stride, job.leaf_at + 2 * l);
    for (; i < p; ++i) complex_products<1>(x, stride, q, h + 2 * i * q, y + i * stride, job.leaf_at + 2 * l);
  }
  for (int64_t l = 0; l < job.reals; ++l, h += p * q) {
    const V* in = x + job.real_at[l];
    V* out = y + job.real_at[l];
    int64_t i = 0;
    for (; i + 8 <= p; i += 8) real_products<8>(in, stride, q, h + i * q, out + i * stride);
    for (; i < p; ++i) real_products<1>(in, stride, q, h + i * q, out + i * stride);
  }
}

template <int W>
static void many_rows(const Job& job, const float* x, int64_t rows, float* y, const float* bias,
                      float* scratch) {
  using V = VectorOf<W>;
  const int64_t stride = (job.length + 1) * W;
  for (int64_t j = 0; j < job.q; ++j) {
    float* data = scratch + j * stride;
    gather_rows<W>(job, j, x, rows, data);
    run_forward<V, float>(job.steps, job.step_count, job.factors, reinterpret_cast<V*>(data));
  }
  float* to = job.p == 1 && job.q == 1 ? scratch : scratch + job.q * stride;
  rows_products<W>(job, scratch, to);
  for (int64_t i = 0; i < job.p; ++i) {
    float* data = to + i * stride;
    run_inverse<V, float>(job.steps, job.step_count, job.factors, reinterpret_cast<V*>(data));
    scatter_rows<W>(job, i, data, rows, y, bias);
  }
}

template <int W>
static bool all_within(const float* x, int64_t count, float limit) {
  int outside = 0;
  for (int64_t t = 0; t < count; ++t) outside |= !(__builtin_fabsf(x[t]) < limit);
  return !outside;
}

template <int W>
constexpr Variant::Single single() {
  if constexpr (W < 4) return {};
  else return {W, single_row<W>};
}

constexpr int kWidth = Lanes::width;
constexpr Variant kLanes{kWidth, many_rows<kWidth>, all_within<kWidth>,
                         {single<kWidth>(), single<kWidth / 2>(), single<kWidth / 4>(), {}}};

}  // namespace
}  // namespace edgefc::circulant
