// The arithmetic of the steps of circulant.h on elements of type V with factors of type S.
//
// V needs +, -, *. Before this file, define mul_add and the related functions (simd/vectors.h) and fill<V>(S).
#pragma once

#include "circulant/circulant.h"
#include "simd/compiler.h"

namespace edgefc::circulant {
namespace {

template <class V>
struct Complex {
  V re, im;
};

// x * w and x * conj(w)
template <class V>
EDGEFC_INLINE Complex<V> times(const Complex<V>& x, const V& wr, const V& wi) {
  return {neg_mul_add(x.im, wi, x.re * wr), mul_add(x.im, wr, x.re * wi)};
}
template <class V>
EDGEFC_INLINE Complex<V> times_conj(const Complex<V>& x, const V& wr, const V& wi) {
  return {mul_add(x.im, wi, x.re * wr), mul_sub(x.im, wr, x.re * wi)};
}

template <bool kForward, class V>
EDGEFC_INLINE void butterfly4(Complex<V>& a, Complex<V>& b, Complex<V>& c, Complex<V>& d) {
  const Complex<V> s0 = {a.re + c.re, a.im + c.im}, s1 = {a.re - c.re, a.im - c.im};
  const Complex<V> s2 = {b.re + d.re, b.im + d.im}, s3 = {b.re - d.re, b.im - d.im};
  a = {s0.re + s2.re, s0.im + s2.im};
  c = {s0.re - s2.re, s0.im - s2.im};
  const Complex<V> up = {s1.re - s3.im, s1.im + s3.re}, down = {s1.re + s3.im, s1.im - s3.re};
  b = kForward ? up : down;
  d = kForward ? down : up;
}

template <class V, class S, bool kForward>
EDGEFC_INLINE void complex2(V* re, V* im, int64_t length, const S* w) {
  const V wr = fill<V>(w[0]), wi = fill<V>(w[1]);
  for (int64_t t = 0; t < length; ++t) {
    Complex<V> a = {re[t], im[t]}, b = {re[t + length], im[t + length]};
    if (kForward) b = times(b, wr, wi);
    const Complex<V> sum = {a.re + b.re, a.im + b.im};
    Complex<V> gap = {a.re - b.re, a.im - b.im};
    if (!kForward) gap = times_conj(gap, wr, wi);
    re[t] = sum.re, im[t] = sum.im, re[t + length] = gap.re, im[t + length] = gap.im;
  }
}

template <class V, class S, bool kForward>
EDGEFC_INLINE void complex4(V* re, V* im, int64_t length, const S* w) {
  const V w1r = fill<V>(w[0]), w1i = fill<V>(w[1]), w2r = fill<V>(w[2]), w2i = fill<V>(w[3]);
  const V w3r = fill<V>(w[4]), w3i = fill<V>(w[5]);
  for (int64_t t = 0; t < length; ++t) {
    Complex<V> a = {re[t], im[t]}, b = {re[t + length], im[t + length]};
    Complex<V> c = {re[t + 2 * length], im[t + 2 * length]}, d = {re[t + 3 * length], im[t + 3 * length]};
    if (kForward) {
      b = times(b, w1r, w1i), c = times(c, w2r, w2i), d = times(d, w3r, w3i);
      butterfly4<true>(a, b, c, d);
    } else {
      butterfly4<false>(a, b, c, d);
      b = times_conj(b, w1r, w1i), c = times_conj(c, w2r, w2i), d = times_conj(d, w3r, w3i);
    }
    re[t] = a.re, re[t + length] = b.re, re[t + 2 * length] = c.re, re[t + 3 * length] = d.re;
    im[t] = a.im, im[t + length] = b.im, im[t + 2 * length] = c.im, im[t + 3 * length] = d.im;
  }
}

template <int R, class V, class S, bool kForward>
EDGEFC_INLINE void complex_odd(V* re, V* im, int64_t length, const S* w, const S* roots) {
  constexpr int H = R / 2;
  for (int64_t t = 0; t < length; ++t) {
    const Complex<V> first = {re[t], im[t]};
    Complex<V> x[R], sum[H], gap[H];
    for (int j = 1; j < R; ++j) {
      x[j] = {re[t + j * length], im[t + j * length]};
      if (kForward) x[j] = times(x[j], fill<V>(w[2 * j - 2]), fill<V>(w[2 * j - 1]));
    }
    Complex<V> all = first;
    for (int j = 0; j < H; ++j) {
      sum[j] = {x[j + 1].re + x[R - 1 - j].re, x[j + 1].im + x[R - 1 - j].im};
      gap[j] = {x[j + 1].re - x[R - 1 - j].re, x[j + 1].im - x[R - 1 - j].im};
      all = {all.re + sum[j].re, all.im + sum[j].im};
    }
    re[t] = all.re, im[t] = all.im;
    for (int k = 1; k <= H; ++k) {
      Complex<V> even = first;
      V cosine = fill<V>(roots[k % R]), sine = fill<V>(roots[R + k % R]);
      even = {mul_add(sum[0].re, cosine, even.re), mul_add(sum[0].im, cosine, even.im)};
      Complex<V> odd = {gap[0].re * sine, gap[0].im * sine};
      for (int j = 1; j < H; ++j) {
        cosine = fill<V>(roots[(j + 1) * k % R]), sine = fill<V>(roots[R + (j + 1) * k % R]);
        even = {mul_add(sum[j].re, cosine, even.re), mul_add(sum[j].im, cosine, even.im)};
        odd = {mul_add(gap[j].re, sine, odd.re), mul_add(gap[j].im, sine, odd.im)};
      }
      const int plus = kForward ? k : R - k, minus = R - plus;
      Complex<V> up = {even.re - odd.im, even.im + odd.re}, down = {even.re + odd.im, even.im - odd.re};
      if (!kForward) {
        up = times_conj(up, fill<V>(w[2 * plus - 2]), fill<V>(w[2 * plus - 1]));
        down = times_conj(down, fill<V>(w[2 * minus - 2]), fill<V>(w[2 * minus - 1]));
      }
      re[t + plus * length] = up.re, im[t + plus * length] = up.im;
      re[t + minus * length] = down.re, im[t + minus * length] = down.im;
    }
  }
}

template <class V, bool kForward>
EDGEFC_INLINE void real2(V* x, int64_t length) {
  for (int64_t t = 0; t < length; ++t) {
    const V a = x[t], b = x[t + length];
    x[t] = a + b, x[t + length] = a - b;
  }
}

template <class V, bool kForward>
EDGEFC_INLINE void real4(V* x, int64_t length) {
  for (int64_t t = 0; t < length; ++t) {
    const V a = x[t], b = x[t + length], c = x[t + 2 * length], d = x[t + 3 * length];
    if (kForward) {
      const V even = a + c, odd = b + d;
      x[t] = even + odd, x[t + length] = even - odd, x[t + 2 * length] = a - c, x[t + 3 * length] = b - d;
    } else {
      const V even = a + b, odd = a - b;
      x[t] = even + c, x[t + length] = odd + d, x[t + 2 * length] = even - c, x[t + 3 * length] = odd - d;
    }
  }
}

template <int R, class V, class S, bool kForward>
EDGEFC_INLINE void real_odd(V* x, int64_t length, const S* roots) {
  constexpr int H = R / 2;
  for (int64_t t = 0; t < length; ++t) {
    V in[R];
    for (int j = 0; j < R; ++j) in[j] = x[t + j * length];
    V all = in[0];
    if (kForward) {
      V sum[H], gap[H];
      for (int j = 0; j < H; ++j) {
        sum[j] = in[j + 1] + in[R - 1 - j], gap[j] = in[j + 1] - in[R - 1 - j];
        all = all + sum[j];
      }
      x[t] = all;
      for (int k = 1; k <= H; ++k) {
        V re = mul_add(sum[0], fill<V>(roots[k]), in[0]), im = gap[0] * fill<V>(roots[R + k]);
        for (int j = 1; j < H; ++j) {
          re = mul_add(sum[j], fill<V>(roots[(j + 1) * k % R]), re);
          im = mul_add(gap[j], fill<V>(roots[R + (j + 1) * k % R]), im);
        }
        x[t + (2 * k - 1) * length] = re, x[t + 2 * k * length] = im;
      }
    } else {
      for (int k = 1; k <= H; ++k) all = all + in[2 * k - 1];
      x[t] = all;
      for (int j = 1; j <= H; ++j) {
        V even = mul_add(in[1], fill<V>(roots[j]), in[0]), odd = in[2] * fill<V>(roots[R + j]);
        for (int k = 2; k <= H; ++k) {
          even = mul_add(in[2 * k - 1], fill<V>(roots[j * k % R]), even);
          odd = mul_add(in[2 * k], fill<V>(roots[R + j * k % R]), odd);
        }
        x[t + j * length] = even + odd, x[t + (R - j) * length] = even - odd;
      }
    }
  }
}

template <class V, class S>
EDGEFC_INLINE void flip(V* x, int64_t length) {
  const V minus = fill<V>(static_cast<S>(-1));
  for (int64_t t = 1; t < length; t += 2) x[t] = x[t] * minus;
}

template <int R, class V, class S, bool kForward>
static void odd_step(const Step& step, const S* factors, V* data) {
  if (step.split == Split::kRealOdd) {
    real_odd<R, V, S, kForward>(data + step.re, step.length, factors + step.roots);
    return;
  }
  for (int64_t c = 0; c < step.count; ++c) {
    const int64_t at = c * R * step.length;
    complex_odd<R, V, S, kForward>(data + step.re + at, data + step.im + at, step.length,
                                   factors + step.factors + 2 * (R - 1) * c, factors + step.roots);
  }
}

template <class V, class S, bool kForward>
EDGEFC_INLINE void run_step(const Step& step, const S* factors, V* data) {
  V* re = data + step.re;
  V* im = data + step.im;
  const S* w = factors + step.factors;
  const int64_t length = step.length;
  switch (step.split) {
    case Split::kReal2: real2<V, kForward>(re, length); break;
    case Split::kReal4: real4<V, kForward>(re, length); break;
    case Split::kFlip: flip<V, S>(re, length); break;
    case Split::kComplex2:
      for (int64_t c = 0; c < step.count; ++c)
        complex2<V, S, kForward>(re + 2 * c * length, im + 2 * c * length, length, w + 2 * c);
      break;
    case Split::kComplex4:
      for (int64_t c = 0; c < step.count; ++c)
        complex4<V, S, kForward>(re + 4 * c * length, im + 4 * c * length, length, w + 6 * c);
      break;
    default:
      switch (step.radix) {
        case 3: odd_step<3, V, S, kForward>(step, factors, data); break;
        case 5: odd_step<5, V, S, kForward>(step, factors, data); break;
        case 7: odd_step<7, V, S, kForward>(step, factors, data); break;
        case 11: odd_step<11, V, S, kForward>(step, factors, data); break;
        default: odd_step<13, V, S, kForward>(step, factors, data); break;
      }
  }
}

template <class V, class S>
static void run_forward(const Step* steps, int64_t count, const S* factors, V* data) {
  for (int64_t s = 0; s < count; ++s) run_step<V, S, true>(steps[s], factors, data);
}

template <class V, class S>
static void run_inverse(const Step* steps, int64_t count, const S* factors, V* data) {
  for (int64_t s = count; s-- > 0;) run_step<V, S, false>(steps[s], factors, data);
}

// The last W points of one row: each lane is a node z^W - w, element c its coefficient c. w: W - 1 complex vectors.
template <int W, class V, bool kForward>
EDGEFC_INLINE void lanes_transform(V* re, V* im, const V* w) {
  constexpr int Q = W / 4;
  if (!kForward) {
    for (int k = 0; k < 4 && Q > 1; ++k) {
      const V* u = w + 6 + 2 * (Q - 1) * k;
      Complex<V> a = {re[Q * k], im[Q * k]}, b = {re[Q * k + 1], im[Q * k + 1]};
      if (Q == 2) {
        const Complex<V> gap = times_conj(Complex<V>{a.re - b.re, a.im - b.im}, u[0], u[1]);
        re[Q * k] = a.re + b.re, im[Q * k] = a.im + b.im, re[Q * k + 1] = gap.re, im[Q * k + 1] = gap.im;
      } else {
        constexpr int X = Q == 4 ? 2 : 0, Y = Q == 4 ? 3 : 0;
        Complex<V> c = {re[Q * k + X], im[Q * k + X]}, d = {re[Q * k + Y], im[Q * k + Y]};
        butterfly4<false>(a, b, c, d);
        b = times_conj(b, u[0], u[1]), c = times_conj(c, u[X], u[X + 1]), d = times_conj(d, u[2 * X], u[2 * X + 1]);
        re[Q * k + Y] = d.re, im[Q * k + Y] = d.im, re[Q * k + X] = c.re, im[Q * k + X] = c.im;
        re[Q * k + 1] = b.re, im[Q * k + 1] = b.im, re[Q * k] = a.re, im[Q * k] = a.im;
      }
    }
  }
  for (int t = 0; t < Q; ++t) {
    Complex<V> a = {re[t], im[t]}, b = {re[t + Q], im[t + Q]};
    Complex<V> c = {re[t + 2 * Q], im[t + 2 * Q]}, d = {re[t + 3 * Q], im[t + 3 * Q]};
    if (kForward) {
      b = times(b, w[0], w[1]), c = times(c, w[2], w[3]), d = times(d, w[4], w[5]);
      butterfly4<true>(a, b, c, d);
    } else {
      butterfly4<false>(a, b, c, d);
      b = times_conj(b, w[0], w[1]), c = times_conj(c, w[2], w[3]), d = times_conj(d, w[4], w[5]);
    }
    re[t] = a.re, re[t + Q] = b.re, re[t + 2 * Q] = c.re, re[t + 3 * Q] = d.re;
    im[t] = a.im, im[t + Q] = b.im, im[t + 2 * Q] = c.im, im[t + 3 * Q] = d.im;
  }
  if (kForward) {
    for (int k = 0; k < 4 && Q > 1; ++k) {
      const V* u = w + 6 + 2 * (Q - 1) * k;
      Complex<V> a = {re[Q * k], im[Q * k]}, b = times(Complex<V>{re[Q * k + 1], im[Q * k + 1]}, u[0], u[1]);
      if (Q == 2) {
        re[Q * k] = a.re + b.re, im[Q * k] = a.im + b.im, re[Q * k + 1] = a.re - b.re, im[Q * k + 1] = a.im - b.im;
      } else {
        constexpr int X = Q == 4 ? 2 : 0, Y = Q == 4 ? 3 : 0;
        Complex<V> c = times(Complex<V>{re[Q * k + X], im[Q * k + X]}, u[X], u[X + 1]);
        Complex<V> d = times(Complex<V>{re[Q * k + Y], im[Q * k + Y]}, u[2 * X], u[2 * X + 1]);
        butterfly4<true>(a, b, c, d);
        re[Q * k + Y] = d.re, im[Q * k + Y] = d.im, re[Q * k + X] = c.re, im[Q * k + X] = c.im;
        re[Q * k + 1] = b.re, im[Q * k + 1] = b.im, re[Q * k] = a.re, im[Q * k] = a.im;
      }
    }
  }
}

}  // namespace
}  // namespace edgefc::circulant
