#include "circulant/form.h"

#include <cmath>
#include <utility>

namespace edgefc::circulant {
namespace {

constexpr int kCandidates = 6;  // lengths that are compared

}  // namespace

double form_cost(const Job& job, const Program& program, int width, bool single) {
  const double ends = static_cast<double>(job.p + job.q) / 2, blocks = static_cast<double>(job.p) * job.q;
  const double length = static_cast<double>(program.length);
  const double vectors = std::ceil(static_cast<double>(program.leaves.size()) / width) * width;
  const double reals = static_cast<double>(program.real_leaves.size());
  const double sum = single ? ends * (cost(program) + vectors * 32) + blocks * (vectors * 6 + reals * width * 3)
                            : 0.8 * (ends * (cost(program) + 12 * length) + 3 * blocks * length);
  return sum * (width == 16 ? 1.0 : width == 8 ? 0.65 : 0.5);  // wide vectors cost more than narrow ones
}

Program best_program(const Job& job, int width, bool single) {
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

void set_up(Form& form, const Job& sizes, int width, bool single, Program program) {
  form.width = width;
  form.program = std::move(program);
  form.cost = form_cost(sizes, form.program, width, single);
  for (const Leaf& leaf : form.program.leaves) form.leaf_at.push_back(leaf.re), form.leaf_at.push_back(leaf.im);
  for (const RealLeaf& leaf : form.program.real_leaves) form.real_at.push_back(leaf.at);
  Job& job = form.job;
  job = sizes;
  job.length = form.program.length * (single ? width : 1);
  job.steps = form.program.steps.data();
  job.step_count = static_cast<int64_t>(form.program.steps.size());
  job.factors = form.program.factors32.data();
  job.leaf_at = form.leaf_at.data();
  job.leaves = static_cast<int64_t>(form.program.leaves.size());
  job.real_at = form.real_at.data();
  job.reals = static_cast<int64_t>(form.program.real_leaves.size());
  job.groups = single ? up(job.leaves, width) : 0;
}

}  // namespace edgefc::circulant
