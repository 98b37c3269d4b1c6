#include "circulant/fft.h"

#include <cmath>
#include <utility>

namespace edgefc::circulant {
namespace {

constexpr int64_t kNearby = 128;  // complex elements that fit in a first-level cache at the widest vectors

int smallest_odd_factor(int64_t n) {
  for (int r = 3; r <= kLargestRadix; r += 2)
    if (n % r == 0) return r;
  return 0;
}

class Builder {
 public:
  explicit Builder(int64_t length) {
    program_.length = length;
    real(0, length);
    program_.factors32.assign(program_.factors.begin(), program_.factors.end());
  }
  Program take() { return std::move(program_); }

 private:
  void emit(Split split, int radix, int64_t length, int64_t re) {
    program_.steps.push_back({split, radix, length, 1, re, 0, 0, split == Split::kRealOdd ? roots(radix) : 0});
  }

  void real(int64_t at, int64_t n) {
    if (n == 1) {
      program_.real_leaves.push_back({at, flipped_ ? -1.0 : 1.0});
    } else if (n % 4 == 0) {
      const int64_t part = n / 4;
      emit(Split::kReal4, 4, part, at);
      real(at, part);
      negacyclic(at + part, part);
      complex(at + 2 * part, at + 3 * part, part, {0.25});
    } else if (n % 2 == 0) {
      emit(Split::kReal2, 2, n / 2, at);
      real(at, n / 2);
      negacyclic(at + n / 2, n / 2);
    } else {
      const int r = smallest_odd_factor(n);
      const int64_t part = n / r;
      emit(Split::kRealOdd, r, part, at);
      real(at, part);
      for (int k = 1; 2 * k < r; ++k)
        complex(at + (2 * k - 1) * part, at + 2 * k * part, part, {static_cast<double>(k) / r});
    }
  }

  void negacyclic(int64_t at, int64_t n) {
    if (n % 2 == 0) {
      complex(at, at + n / 2, n / 2, {0.25});
    } else {
      if (n > 1) emit(Split::kFlip, 1, n, at);
      flipped_ = !flipped_;
      real(at, n);
      flipped_ = !flipped_;
    }
  }

  // turns.size() nodes side by side, each z^n - exp(2 pi i turn).
  void complex(int64_t re, int64_t im, int64_t n, const std::vector<double>& turns) {
    const int64_t count = static_cast<int64_t>(turns.size());
    if (n == 1) {
      for (int64_t c = 0; c < count; ++c)
        program_.leaves.push_back({re + c, im + c, turns[c] + (flipped_ ? 0.5 : 0.0)});
      return;
    }
    if (count > 1 && count * n > kNearby) {  // one after the other, so that each stays in the cache
      for (int64_t c = 0; c < count; ++c) complex(re + c * n, im + c * n, n, {turns[c]});
      return;
    }
    const int odd = smallest_odd_factor(n);
    const int r = odd ? odd : n % 4 == 0 ? 4 : 2;
    const Split split = odd ? Split::kComplexOdd : r == 4 ? Split::kComplex4 : Split::kComplex2;
    const int64_t first = static_cast<int64_t>(program_.factors.size());
    std::vector<double> below;
    for (const double turn : turns) {
      for (int j = 1; j < r; ++j) push_factor(turn * j / r);
      for (int k = 0; k < r; ++k) below.push_back((turn + k) / r);
    }
    program_.steps.push_back({split, r, n / r, count, re, im, first, odd ? roots(r) : 0});
    complex(re, im, n / r, below);
  }

  void push_factor(double turn) {
    const double angle = 2 * std::acos(-1.0) * turn;
    program_.factors.push_back(std::cos(angle));
    program_.factors.push_back(std::sin(angle));
  }

  int64_t roots(int r) {
    if (roots_[r] < 0) {
      roots_[r] = static_cast<int64_t>(program_.factors.size());
      const double angle = 2 * std::acos(-1.0) / r;
      for (int k = 0; k < r; ++k) program_.factors.push_back(std::cos(angle * k));
      for (int k = 0; k < r; ++k) program_.factors.push_back(std::sin(angle * k));
    }
    return roots_[r];
  }

  Program program_;
  bool flipped_ = false;
  int64_t roots_[kLargestRadix + 1] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
};

}  // namespace

bool smooth(int64_t length) {
  if (length < 1) return false;
  while (length % 2 == 0) length /= 2;
  for (int r = 3; r <= kLargestRadix; r += 2)
    while (length % r == 0) length /= r;
  return length == 1;
}

Program make_program(int64_t length) { return Builder(length).take(); }

double cost(const Program& program) {
  double sum = 0;
  for (const Step& step : program.steps) {
    const double nodes = static_cast<double>(step.length) * static_cast<double>(step.count);
    const int r = step.radix;
    switch (step.split) {
      case Split::kFlip: sum += nodes; break;
      case Split::kReal2: sum += 6 * nodes; break;
      case Split::kReal4: sum += 14 * nodes; break;
      case Split::kRealOdd: sum += (r * r / 2 + 3 * r) * nodes; break;
      case Split::kComplex2: sum += 16 * nodes; break;
      case Split::kComplex4: sum += 44 * nodes; break;
      case Split::kComplexOdd: sum += (r * r + 8 * r) * nodes; break;
    }
  }
  return 2 * sum + 6 * static_cast<double>(program.leaves.size());
}

}  // namespace edgefc::circulant
