// Int3 in double, for rows with values that are not finite.
#include <cmath>
#include <vector>

#include "int3/int3.h"

namespace edgefc::int3 {

namespace {

double value_of(std::uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                     : std::ldexp(fraction, -24);
  return half >> 15 ? -size : size;
}

int code(const std::uint8_t* unit, std::int64_t row, int column) {
  const std::uint8_t* at = unit + 4 * row + column % 4;
  const int field = column / 4;
  if (field < 6) return at[64 * (field / 2)] >> 3 * (field % 2) & 7;
  return at[64 * (field - 6)] >> 6 | (at[128] >> field & 1) << 2;
}

// A row of W, turned back, so that it belongs to x.
void row_of(const Plan& plan, const Weights& w, std::int64_t row, std::vector<double>& to) {
  const std::int64_t units = plan.width / kColumns, block = row / kRows, groups = plan.width / plan.group;
  for (std::int64_t i = 0; i < plan.width; ++i) {
    const double scale = value_of(w.scales[(block * groups + i / plan.group) * kRows + row % kRows]);
    const std::uint8_t* unit = w.packed + (block * units + i / kColumns) * kUnit;
    to[static_cast<std::size_t>(i)] = (code(unit, row % kRows, static_cast<int>(i % kColumns)) - kZero) * scale;
  }
  for (int h = 1; h < plan.block; h *= 2) {
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (i & static_cast<std::size_t>(h)) continue;
      const double a = to[i], b = to[i + static_cast<std::size_t>(h)];
      to[i] = a + b;
      to[i + static_cast<std::size_t>(h)] = a - b;
    }
  }
  for (std::size_t i = 0; i < to.size() && plan.block; ++i) {
    const bool minus = word(plan.keys, 0, static_cast<std::uint32_t>(i / 32)) >> i % 32 & 1;
    to[i] *= (minus ? -1 : 1) / std::sqrt(static_cast<double>(plan.block));
  }
}

}  // namespace

void one_row(const Plan& plan, const Weights& w, const float* x, float* y) {
  std::vector<double> row(static_cast<std::size_t>(plan.width));
  for (std::int64_t j = 0; j < plan.out; ++j) {
    row_of(plan, w, j, row);
    double sum = w.bias[j];
    for (std::int64_t i = 0; i < plan.in; ++i) sum += x[i] * row[static_cast<std::size_t>(i)];
    y[j] = static_cast<float>(sum);
  }
}

}  // namespace edgefc::int3
