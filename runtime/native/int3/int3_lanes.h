// The Int3 kernel with the vectors of one simd/CPU.h, and its products of bytes or others; see int3.h. build.py
// compiles it once for each instruction set, and everything here is local to its file, as in prp_lanes.h.
//
// Operations per vector of words, which are 4 columns of each row: two to unpack, and for each digit of each batch row
// one or two to multiply and add.
#pragma once

#include "int3/int3.h"
#include "simd/vectors.h"

namespace edgefc::int3 {
namespace {

constexpr float kMagic = 12582912;                // 1.5 * 2^23: a float of this size has no fractional bits
constexpr std::int32_t kMagicBits = 0x4B400000;
constexpr float kLargest[] = {0, 127, 0, 4194000};  // by digits: the multiple of the step of the largest value
constexpr float kStep[] = {0, 1, 0, 0x1p22f};        // by digits: the multiple that a step in Prepared is
constexpr std::int32_t kSizeBits = 0x7FFFFFFF, kInfinite = 0x7F800000;
constexpr float kSmall = 1e-20f, kLift = 0x1p64f;  // smaller groups are lifted, so that 1 / step does not overflow
constexpr int kMostRows[] = {0, 8, 0, 4};          // by digits: batch rows of which sums are in registers at once
constexpr int kTogether = 4;  // vectors of rows that are in the cache at once, and in registers for few sums

inline std::int32_t bits_of(float value) {
  std::int32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float float_of(std::int32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// ---- what prepare() writes

// For each group of `count` batch rows: the digits, unit by unit (count, digits, 32 bytes), then for each group of
// columns the starts of the sums (count, digits), then the steps (count). A step of three digits is a large multiple of the
// step of the digits, which could be too small for a float.
struct Prepared {
  std::int8_t* digits;
  std::int32_t* starts;
  float* steps;

  Prepared(const Plan& plan, const float* at, int count) {
    const std::int64_t pairs = std::int64_t{count} * plan.digits;
    digits = reinterpret_cast<std::int8_t*>(const_cast<float*>(at));
    starts = reinterpret_cast<std::int32_t*>(digits + pairs * plan.width);
    steps = reinterpret_cast<float*>(starts + pairs * (plan.width / plan.group));
  }
};

inline std::int64_t floats_of(const Plan& plan, int count) {
  return count * (plan.digits * (plan.width / 4 + plan.width / plan.group) + plan.width / plan.group);
}

inline int most_rows(const Plan& plan, int sums) {
  const int most = kMostRows[plan.digits];
  return most * plan.digits <= sums ? most : most / 2;
}

// The largest power of two of rows that are left.
inline int some_rows(int left, int most) {
  while (most > left) most /= 2;
  return most;
}

inline int chunk(const Plan& plan) { return plan.digits == 1 ? 64 : 32; }
inline std::size_t floats(const Plan& plan, int rows) { return static_cast<std::size_t>(floats_of(plan, rows)); }

// ---- the rotation

template <int H, class V>
EDGEFC_INLINE void add_and_subtract(V& a, V& b) {
  constexpr int W = Lanes::width;
  if constexpr (H < W) exchange<W, H>(a, b, std::make_index_sequence<W>{});
  const V sum = a + b;
  b = a - b;
  a = sum;
  if constexpr (H < W) exchange<W, H>(a, b, std::make_index_sequence<W>{});
}

// The Walsh-Hadamard transform of kLargestBlock values, without its factor. H is for its own calls.
template <int H = 1>
inline void transform(VectorOf<Lanes::width> (&v)[kLargestBlock / Lanes::width]) {
  constexpr int N = kLargestBlock / Lanes::width, D = H < Lanes::width ? 1 : H / Lanes::width;
  EDGEFC_UNROLL
  for (int i = 0; i < N; ++i) {
    if (!(i & D)) add_and_subtract<H>(v[i], v[i + D]);
  }
  if constexpr (2 * H < kLargestBlock) transform<2 * H>(v);
}

inline void transform(float* z, int length) {
  constexpr int W = Lanes::width, N = kLargestBlock / W;
  if (length == kLargestBlock) {
    VectorOf<W> v[N];
    for (int i = 0; i < N; ++i) v[i] = load<W>(z + i * W);
    transform(v);
    for (int i = 0; i < N; ++i) store<W>(z + i * W, v[i]);
    return;
  }
  for (int h = 1; h < length; h *= 2) {
    for (int i = 0; i < length; ++i) {
      if (i & h) continue;
      const float a = z[i], b = z[i + h];
      z[i] = a + b;
      z[i + h] = a - b;
    }
  }
}

// Columns `first` to first + count - 1 of the padded and rotated row, without the factor of the rotation.
inline void rotate(const Plan& plan, const float* x, std::int64_t first, int count, float* z) {
  const std::int64_t left = plan.in - first;
  const int given = left >= count ? count : left > 0 ? static_cast<int>(left) : 0;
  for (int i = 0; i < given; ++i) z[i] = x[first + i];
  for (int i = given; i < count; ++i) z[i] = 0;
  if (plan.block == 0) return;
  for (int i = 0; i < given; i += 32) {
    const std::uint32_t signs = word(plan.keys, 0, static_cast<std::uint32_t>((first + i) / 32));
    for (std::uint32_t j = 0; j < 32; ++j) {
      z[i + j] = float_of(bits_of(z[i + j]) ^ static_cast<std::int32_t>((signs >> j) << 31));
    }
  }
  for (int i = 0; i < given; i += plan.block) transform(z + i, plan.block);
}

// ---- digits

// 32 values times per_step -> P digits of each, P * 32 bytes. Adds the digits to the sums.
template <int P>
inline void cut(const float* z, float lift, float per_step, std::int8_t* to, std::int32_t (&sums)[P]) {
  std::int32_t q[kColumns];
  for (int i = 0; i < kColumns; ++i) q[i] = bits_of(z[i] * lift * per_step + kMagic) - kMagicBits;
  for (int p = P - 1; p >= 0; --p) {
    std::int32_t sum = 0;
    for (int i = 0; i < kColumns; ++i) {
      const auto digit = static_cast<std::int32_t>(static_cast<std::uint32_t>(q[i]) << 24) >> 24;
      to[p * kColumns + i] = static_cast<std::int8_t>(digit);
      q[i] = (q[i] - digit) >> 8;
      sum += digit;
    }
    sums[p] += sum;
  }
}

// A group of columns of batch row b of `count`. Returns false if a value is not finite.
template <int P>
inline bool prepare_group(const Plan& plan, const float* z, std::int64_t group, int b, int count, float factor,
                          const Prepared& to) {
  std::int32_t size = 0;
  for (int i = 0; i < plan.group; ++i) {
    const std::int32_t each = bits_of(z[i]) & kSizeBits;
    size = each > size ? each : size;
  }
  const bool finite = size < kInfinite;
  const float largest = float_of(size), lift = largest < kSmall ? kLift : 1.0f;
  const float per_step = finite && size > 0 ? kLargest[P] / (largest * lift) : 0;
  to.steps[group * count + b] = finite ? largest * (kStep[P] / kLargest[P]) * factor : __builtin_nanf("");
  std::int32_t sums[P] = {};
  const std::int64_t units = plan.group / kColumns;
  for (std::int64_t u = 0; u < units; ++u) {
    std::int8_t* digits = to.digits + ((group * units + u) * count + b) * P * kColumns;
    if (finite) {
      cut<P>(z + u * kColumns, lift, per_step, digits, sums);
    } else {
      for (int i = 0; i < P * kColumns; ++i) digits[i] = 0;
    }
  }
  for (int p = 0; p < P; ++p) to.starts[(group * count + b) * P + p] = -kZero * sums[p];
  return finite;
}

template <int P>
inline bool prepare_row(const Plan& plan, const float* x, int b, int count, const Prepared& to) {
  alignas(64) float z[kLargestGroup];
  const int span = plan.group > plan.block ? plan.group : plan.block;
  const float factor = plan.block == 0 ? 1.0f : 1 / __builtin_sqrtf(static_cast<float>(plan.block));
  bool finite = true;
  for (std::int64_t first = 0; first < plan.width; first += span) {
    rotate(plan, x, first, span, z);
    for (int i = 0; i < span; i += plan.group) {
      finite &= prepare_group<P>(plan, z + i, (first + i) / plan.group, b, count, factor, to);
    }
  }
  return finite;
}

template <class Dots>
bool prepare(const Plan& plan, const float* x, int rows, int row, float* prepared) {
  int first = 0, count = 0;
  for (;; first += count) {
    count = some_rows(rows - first, most_rows(plan, Dots::sums));
    if (row < first + count) break;
  }
  const Prepared to(plan, prepared + floats_of(plan, first), count);
  const float* from = x + row * plan.in;
  return plan.digits == 1 ? prepare_row<1>(plan, from, row - first, count, to)
                          : prepare_row<3>(plan, from, row - first, count, to);
}

// ---- products

// The words of vector `slot` of rows.
struct Slot {
  const std::uint8_t* packed;
  const std::uint16_t* scales;

  Slot(const Plan& plan, const Weights& w, std::int64_t slot) {
    constexpr int kSlots = kRows / Lanes::width;
    const std::int64_t block = slot / kSlots, row = slot % kSlots * Lanes::width;
    packed = w.packed + block * (plan.width / kColumns) * kUnit + row * 4;
    scales = w.scales + block * (plan.width / plan.group) * kRows + row;
  }
};

// Columns 4 f to 4 f + 3 of the 32 columns in three words.
template <int F>
EDGEFC_INLINE Lanes::I code(const Lanes::I (&words)[3]) {
  if constexpr (F < 6) {
    const Lanes::I word = words[F / 2];
    return Lanes::both(F % 2 ? Lanes::right(word, 3) : word, Lanes::words(0x07070707));
  } else {
    const Lanes::I low = Lanes::both(Lanes::right(words[F - 6], 6), Lanes::words(0x03030303));
    return Lanes::either(low, Lanes::both(Lanes::right(words[2], F - 2), Lanes::words(0x04040404)));
  }
}

// K sums of products, with the digits that each of them has for columns 4 F to 4 F + 3. F is for its own calls.
template <class Dots, int K, int F = 0>
EDGEFC_INLINE void add_products(const Lanes::I (&words)[3], const std::int8_t* digits, typename Dots::Part (&parts)[K]) {
  const Lanes::I codes = code<F>(words);
  EDGEFC_UNROLL
  for (int k = 0; k < K; ++k) {
    std::uint32_t four;
    __builtin_memcpy(&four, digits + k * kColumns + 4 * F, sizeof four);
    parts[k] = Dots::add(parts[k], codes, Lanes::words(four));
  }
  if constexpr (F < 7) add_products<Dots, K, F + 1>(words, digits, parts);
}

// 32 columns of one vector of rows, K digits of batch rows.
template <class Dots, int K>
EDGEFC_INLINE void multiply_unit(const std::uint8_t* packed, const std::int8_t* digits, Lanes::I (&totals)[K]) {
  const Lanes::I words[3] = {Lanes::load_words(packed), Lanes::load_words(packed + kUnit / 3),
                             Lanes::load_words(packed + 2 * kUnit / 3)};
  typename Dots::Part parts[K];
  EDGEFC_UNROLL
  for (int k = 0; k < K; ++k) parts[k] = Dots::begin(totals[k]);
  add_products<Dots, K>(words, digits, parts);
  EDGEFC_UNROLL
  for (int k = 0; k < K; ++k) totals[k] = Dots::end(totals[k], parts[k]);
}

// The sum of the products of a group, in steps.
template <int P>
EDGEFC_INLINE Lanes::F number(const Lanes::I* digits) {
  Lanes::F sum = Lanes::whole(digits[P - 1]);
  if constexpr (P == 3) {
    sum = Lanes::multiply(sum, Lanes::all(1 / kStep[P]));
    sum = Lanes::multiply_add(Lanes::whole(digits[1]), Lanes::all(256 / kStep[P]), sum);
    sum = Lanes::multiply_add(Lanes::whole(digits[0]), Lanes::all(65536 / kStep[P]), sum);
  }
  return sum;
}

// V vectors of rows from `slot` on, B batch rows.
template <class Dots, int P, int B, int V>
void multiply_some(const Plan& plan, const Weights& w, const Prepared& from, std::int64_t slot, float* y) {
  const std::uint8_t* packed[V];
  const std::uint16_t* scales[V];
  Lanes::F sums[V][B];
  for (int v = 0; v < V; ++v) {
    const Slot at(plan, w, slot + v);
    packed[v] = at.packed;
    scales[v] = at.scales;
    for (int b = 0; b < B; ++b) sums[v][b] = Lanes::zero();
  }
  const std::int8_t* digits = from.digits;
  const std::int64_t groups = plan.width / plan.group, units = plan.group / kColumns;
  for (std::int64_t g = 0; g < groups; ++g) {
    Lanes::I totals[V][B * P];
    EDGEFC_UNROLL
    for (int k = 0; k < B * P; ++k) {
      const Lanes::I start = Lanes::words(static_cast<std::uint32_t>(from.starts[g * B * P + k]));
      EDGEFC_UNROLL
      for (int v = 0; v < V; ++v) totals[v][k] = start;
    }
    for (std::int64_t u = 0; u < units; ++u, digits += B * P * kColumns) {
      EDGEFC_UNROLL
      for (int v = 0; v < V; ++v) {
        multiply_unit<Dots, B * P>(packed[v], digits, totals[v]);
        packed[v] += kUnit;
      }
    }
    EDGEFC_UNROLL
    for (int v = 0; v < V; ++v) {
      const Lanes::F scale = Lanes::halves(scales[v] + g * kRows);
      EDGEFC_UNROLL
      for (int b = 0; b < B; ++b) {
        const Lanes::F step = Lanes::multiply(scale, Lanes::all(from.steps[g * B + b]));
        sums[v][b] = Lanes::multiply_add(number<P>(totals[v] + b * P), step, sums[v][b]);
      }
    }
  }
  for (int v = 0; v < V; ++v) {
    const std::int64_t at = (slot + v) * Lanes::width;
    for (int b = 0; b < B; ++b) {
      float* to = y + b * plan.out + at;
      if (at + Lanes::width <= plan.out) {
        Lanes::store(to, Lanes::add(sums[v][b], Lanes::load(w.bias + at)));
        continue;
      }
      float last[Lanes::width];
      Lanes::store(last, sums[v][b]);
      for (std::int64_t i = at; i < plan.out; ++i) to[i - at] = last[i - at] + w.bias[i];
    }
  }
}

template <class Dots, int P, int B>
void multiply_rows(const Plan& plan, const Weights& w, const Prepared& from, std::int64_t first, std::int64_t last,
                   float* y) {
  constexpr int V = kTogether * B * P < Dots::sums ? kTogether : 1;
  std::int64_t slot = first;
  for (; slot + V <= last; slot += V) multiply_some<Dots, P, B, V>(plan, w, from, slot, y);
  for (; slot < last; ++slot) multiply_some<Dots, P, B, 1>(plan, w, from, slot, y);
}

template <class Dots, int P>
void multiply_slots(const Plan& plan, const Weights& w, const float* prepared, int rows, std::int64_t first,
                    std::int64_t last, float* y) {
  for (int row = 0, count; row < rows; row += count) {
    count = some_rows(rows - row, most_rows(plan, Dots::sums));
    const Prepared from(plan, prepared + floats_of(plan, row), count);
    float* to = y + row * plan.out;
    switch (count) {
      case 1: multiply_rows<Dots, P, 1>(plan, w, from, first, last, to); break;
      case 2: multiply_rows<Dots, P, 2>(plan, w, from, first, last, to); break;
      case 4: multiply_rows<Dots, P, 4>(plan, w, from, first, last, to); break;
      default:
        if constexpr (P == 1) multiply_rows<Dots, P, 8>(plan, w, from, first, last, to);
    }
  }
}

template <class Dots>
void multiply(const Plan& plan, const Weights& w, const float* prepared, int rows, std::int64_t first,
              std::int64_t last, float* y) {
  constexpr std::int64_t kSlots = kRows / Lanes::width;
  const std::int64_t all = (plan.out + Lanes::width - 1) / Lanes::width;
  const std::int64_t end = last * kSlots < all ? last * kSlots : all;
  for (std::int64_t slot = first * kSlots; slot < end; slot += kTogether) {  // from the cache for all batch rows
    const std::int64_t next = slot + kTogether < end ? slot + kTogether : end;
    if (plan.digits == 1) {
      multiply_slots<Dots, 1>(plan, w, prepared, rows, slot, next, y);
    } else {
      multiply_slots<Dots, 3>(plan, w, prepared, rows, slot, next, y);
    }
  }
}

template <class Dots>
constexpr Variant kWith{chunk, floats, prepare<Dots>, multiply<Dots>};

constexpr Variant kLanes = kWith<Lanes::Dots>;

}  // namespace
}  // namespace edgefc::int3
