// The seeded matrix of edgefc/generator/README.md, version 1: its constants, and a function that computes one word.
//
// The functions are static, because files for different instruction sets must not share them.
#pragma once

#include <cstdint>

namespace edgefc {

constexpr std::uint32_t kMultiply1 = 0x21F0AAAD, kMultiply2 = 0x735A2D97, kStride = 0x9E3779B9;

static constexpr std::uint32_t mix(std::uint32_t h) {
  h = (h ^ h >> 16) * kMultiply1;
  h = (h ^ h >> 15) * kMultiply2;
  return h ^ h >> 15;
}

struct Keys {
  std::uint32_t first, second;
};

static constexpr Keys keys(std::uint64_t seed) {
  auto low = static_cast<std::uint32_t>(seed), high = static_cast<std::uint32_t>(seed >> 32);
  low ^= mix(high + 0x85EBCA6B);
  high ^= mix(low + 0xC2B2AE35);
  low ^= mix(high + 0x27D4EB2F);
  return {low, high};
}

static constexpr std::uint32_t word(Keys keys, std::uint32_t row, std::uint32_t column) {
  const std::uint32_t counter = mix(row + keys.first) + column * kStride, twist = mix(row * kStride ^ keys.second);
  const std::uint32_t first = (counter ^ counter >> 16) * kMultiply1 ^ twist;
  const std::uint32_t second = (first ^ first >> 15) * kMultiply2;
  return second ^ second >> 16;
}

static_assert(word(keys(0x0123456789ABCDEF), 3, 5) == 0x0C06B528, "the worked example of the specification");

}  // namespace edgefc
