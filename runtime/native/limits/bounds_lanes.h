// The two loops with the vectors of one simd/CPU.h; compiled, and local to its file, as in prp_lanes.h.
#pragma once

#include "limits/bounds.h"

namespace edgefc::bounds {
namespace {

constexpr int kChains = 12;  // enough for two per cycle with a latency of six cycles
constexpr int kStreams = 8;

float total(const Lanes::F* chains, int count) {
  Lanes::F sum = Lanes::zero();
  for (int i = 0; i < count; ++i) sum = Lanes::add(sum, chains[i]);
  float parts[Lanes::width], result = 0;
  Lanes::store(parts, sum);
  for (const float part : parts) result += part;
  return result;
}

float read(const float* data, std::size_t count) {
  constexpr std::size_t kStep = static_cast<std::size_t>(kStreams) * Lanes::width;
  Lanes::F sums[kStreams];
  for (auto& sum : sums) sum = Lanes::zero();
  std::size_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    for (int s = 0; s < kStreams; ++s) sums[s] = Lanes::add(sums[s], Lanes::load(data + i + s * Lanes::width));
  }
  float result = total(sums, kStreams);
  for (; i < count; ++i) result += data[i];
  return result;
}

// c = c a + b stays near b / (1 - a): values do not overflow and do not become denormal, which would be slow.
float fma(std::uint64_t rounds) {
  const Lanes::F a = Lanes::all(0.5f), b = Lanes::all(1.0f);
  Lanes::F chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = Lanes::all(static_cast<float>(i));
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (auto& chain : chains) chain = Lanes::multiply_add(chain, a, b);
  }
  return total(chains, kChains);
}

constexpr Variant kLanes{read, fma, static_cast<std::uint64_t>(kChains) * Lanes::width};

}  // namespace
}  // namespace edgefc::bounds
