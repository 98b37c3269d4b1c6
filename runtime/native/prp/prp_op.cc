// edgefc::PRPLinear: checks attributes and shapes, then calls the kernel of prp.h.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>

#include "ort/kernel.h"
#include "prp/prp.h"

namespace edgefc {

namespace {

constexpr char kOp[] = "edgefc::PRPLinear";
constexpr double kWorthATask = 1 << 18;  // multiply-adds, about ten microseconds
constexpr std::int64_t kWorthASlice = 1 << 10;  // inputs whose tables take the same time
constexpr float kRounding = 2.4e-7f;     // two units in the last place of float32
constexpr std::int64_t kTasks = 64;      // at most; enough to balance the threads

// The first variant, from `given` on, that supports this plan.
const prp::Variant& one_for(const prp::Plan& plan, const prp::Variant* given) {
  while (!given->takes(plan)) given = given->otherwise;
  return *given;
}

class Kernel {
 public:
  Kernel(const ort::Api& api, const ort::KernelInfo& info, bool int8 = false) : api_(api) {
    plan_.int8 = int8;
    const Node node(api, info, kOp);
    name_ = node.name();
    plan_.in = node.size("in_features");
    plan_.out = node.size("out_features");
    plan_.keys = keys(static_cast<std::uint64_t>(node.whole("seed")));
    read_codebook(node);
    constant_[0] = node.check_constant(1, "in_scale", plan_.in);
    constant_[1] = node.check_constant(2, "out_scale", plan_.out);
    constant_[2] = node.check_constant(3, "bias", plan_.out);
    variant_ = &one_for(plan_, &prp::variant());
  }

  void run(ort::KernelContext& context) {
    const Run run(api_, context, name_);
    std::vector<std::int64_t> shape;
    const float* x = run.input(0, shape);
    const std::int64_t rows = run.rows(shape, "in_features", plan_.in);
    const float* in_scale = constant_[0] ? run.checked(1) : run.vector(1, "in_scale", plan_.in);
    const float* out_scale = constant_[1] ? run.checked(2) : run.vector(2, "out_scale", plan_.out);
    const float* bias = constant_[2] ? run.checked(3) : run.vector(3, "bias", plan_.out);
    shape.back() = plan_.out;
    float* y = run.output(shape);
    if (rows == 0) return;
    chunks(run, *variant_, x, rows, {in_scale, out_scale, bias}, y);
  }

 private:
  struct Weights {
    const float *in_scale, *out_scale, *bias;
  };

  void chunks(const Run& run, const prp::Variant& variant, const float* x, std::int64_t rows, const Weights& w,
              float* y) {
    for (std::int64_t row = 0; row < rows;) {
      const auto count = static_cast<int>(std::min<std::int64_t>(rows - row, variant.chunk(plan_)));
      const float* from = x + row * plan_.in;
      float* to = y + row * plan_.out;
      if (!chunk(run, variant, from, count, w, to)) chunks(run, one_for(plan_, variant.otherwise), from, count, w, to);
      row += count;
    }
  }

  bool chunk(const Run& run, const prp::Variant& variant, const float* x, int rows, const Weights& w, float* y) {
    const Scratch::Loan loan(scratch_, variant.floats(plan_, rows));
    const std::int64_t wide = variant.columns(plan_, rows);
    for (std::int64_t column = 0; column < plan_.in; column += wide) {
      const prp::Columns block{column, std::min(column + wide, plan_.in)};
      if (!prepare(run, variant, x, rows, block, w.in_scale, loan.data())) return false;
      bands(run, variant, loan.data(), rows, block, w, y);
    }
    return true;
  }

  bool prepare(const Run& run, const prp::Variant& variant, const float* x, int rows, prp::Columns block,
               const float* in_scale, float* prepared) const {
    const std::int64_t wide = block.last - block.first, grains = variant.grain == 0 ? 1 : wide / variant.grain;
    const std::int64_t tasks = std::max<std::int64_t>(1, std::min({wide * rows / kWorthASlice, grains, kTasks}));
    std::atomic<bool> done{true};
    run.parallel(static_cast<std::size_t>(tasks), [&](std::size_t task) {
      const auto t = static_cast<std::int64_t>(task);
      const prp::Columns slice{block.first + grains * t / tasks * variant.grain,
                               t + 1 == tasks ? block.last : block.first + grains * (t + 1) / tasks * variant.grain};
      if (!variant.prepare(plan_, x, rows, block, slice, in_scale, prepared)) done = false;
    });
    return done;
  }

  void bands(const Run& run, const prp::Variant& variant, const float* prepared, int rows, prp::Columns block,
             const Weights& w, float* y) const {
    const std::int64_t band = variant.band(plan_, rows), count = (plan_.out + band - 1) / band;
    const double work = static_cast<double>(block.last - block.first) * static_cast<double>(plan_.out) * rows;
    const auto worth = static_cast<std::int64_t>(std::min(work / kWorthATask, static_cast<double>(kTasks)));
    const std::int64_t tasks = std::max<std::int64_t>(1, std::min(worth, count));
    run.parallel(static_cast<std::size_t>(tasks), [&](std::size_t task) {
      const auto t = static_cast<std::int64_t>(task);
      const std::int64_t first = count * t / tasks * band, last = std::min(count * (t + 1) / tasks * band, plan_.out);
      variant.bands(plan_, prepared, rows, block, first, last, w.out_scale, w.bias, y);
    });
  }

  void read_codebook(const Node& node) {
    levels_ = node.codebook(plan_.bits);
    plan_.words = (plan_.in * plan_.bits + 31) / 32;
    plan_.levels = levels_.data();
    if (plan_.bits == 8) find_runs();
    if (plan_.bits == 8 && plan_.classes == 0) find_step();
  }

  void find_runs() {
    int classes = 1;
    plan_.class_levels[0] = levels_[0];
    for (std::size_t code = 1; code < levels_.size(); ++code) {
      if (levels_[code] == levels_[code - 1]) continue;
      if (classes == prp::kFewLevels) return;
      plan_.thresholds[classes - 1] = static_cast<std::uint8_t>(code);
      plan_.class_levels[classes++] = levels_[code];
    }
    plan_.classes = classes;
  }

  void find_step() {
    const float step = (levels_.back() - levels_.front()) / 255;
    const float origin = std::round(-2 * levels_.front() / step) / 2;  // code - origin is exact
    for (std::size_t code = 0; code < levels_.size(); ++code) {
      const float level = (static_cast<float>(code) - origin) * step;
      if (!(std::abs(level - levels_[code]) <= kRounding * std::abs(levels_[code]))) return;
    }
    plan_.step = step;
    plan_.origin = origin;
  }

  const ort::Api& api_;
  const prp::Variant* variant_ = nullptr;
  std::string name_;
  bool constant_[3] = {};  // in_scale, out_scale, bias
  std::vector<float> levels_;
  prp::Plan plan_{};
  Scratch scratch_;
};

struct Int8Kernel : Kernel {
  Int8Kernel(const ort::Api& api, const ort::KernelInfo& info) : Kernel(api, info, true) {}
};

}  // namespace

const ort::CustomOp& prp_op(const Options& options) {
  static const ort::CustomOp exact = make_op<Kernel, kOp, 4>(), rounding = make_op<Int8Kernel, kOp, 4>();
  return options.int8_activations ? rounding : exact;
}

}  // namespace edgefc
