// edgefc::Int3Linear: checks attributes and shapes, then calls the kernel of int3.h.
#include <algorithm>
#include <cmath>
#include <memory>

#include "int3/int3.h"
#include "ort/kernel.h"

namespace edgefc {

namespace {

constexpr char kOp[] = "edgefc::Int3Linear";
constexpr double kWorthATask = 1 << 19;         // multiply-adds, about ten microseconds
constexpr std::int64_t kWorthRows = 1 << 14;    // inputs that take ten microseconds to prepare
constexpr std::int64_t kTasks = 64;             // at most; enough to balance the threads

ort::ElementType type_of(std::size_t input) {
  return input == 1 ? ort::kUint8 : input == 2 ? ort::kFloat16 : ort::kFloat;
}

class Kernel {
 public:
  Kernel(const ort::Api& api, const ort::KernelInfo& info, int digits = 3) : api_(api) {
    const Node node(api, info, kOp);
    name_ = node.name();
    plan_.digits = digits;
    plan_.in = node.size("in_features");
    plan_.out = node.size("out_features");
    plan_.group = group(node.whole("group"));
    plan_.block = rotated(node.whole("rotated")) ? rotation_block(plan_.in) : 0;
    plan_.keys = keys(static_cast<std::uint64_t>(node.whole("seed")));
    const std::int64_t multiple = std::max(plan_.group, plan_.block);
    plan_.width = (plan_.in + multiple - 1) / multiple * multiple;
    plan_.blocks = (plan_.out + int3::kRows - 1) / int3::kRows;
    constant_[0] = node.check_constant(1, "packed", packed_shape(), ort::kUint8);
    constant_[1] = node.check_constant(2, "scales", scales_shape(), ort::kFloat16);
    constant_[2] = node.check_constant(3, "bias", plan_.out);
  }

  void run(ort::KernelContext& context) {
    const Run run(api_, context, name_);
    std::vector<std::int64_t> shape;
    const float* x = run.input(0, shape);
    const std::int64_t rows = run.rows(shape, "in_features", plan_.in);
    const void* packed = constant_[0] ? run.checked(1) : run.stored(1, "packed", packed_shape(), ort::kUint8);
    const void* scales = constant_[1] ? run.checked(2) : run.stored(2, "scales", scales_shape(), ort::kFloat16);
    const float* bias = constant_[2] ? run.checked(3) : run.vector(3, "bias", plan_.out);
    shape.back() = plan_.out;
    float* y = run.output(shape);
    const int3::Weights w{static_cast<const std::uint8_t*>(packed), static_cast<const std::uint16_t*>(scales), bias};
    const int3::Variant& variant = int3::variant();
    const int most = variant.chunk(plan_);
    for (std::int64_t row = 0; row < rows; row += most) {
      chunk(run, variant, w, x + row * plan_.in, static_cast<int>(std::min<std::int64_t>(rows - row, most)),
            y + row * plan_.out);
    }
  }

 private:
  void chunk(const Run& run, const int3::Variant& variant, const int3::Weights& w, const float* x, int rows, float* y) {
    const Scratch::Loan loan(scratch_, variant.floats(plan_, rows));
    bool finite[64];
    const std::int64_t prepared = std::clamp<std::int64_t>(rows * plan_.width / kWorthRows, 1, rows);
    run.parallel(static_cast<std::size_t>(prepared), [&](std::size_t task) {
      const auto t = static_cast<std::int64_t>(task);
      const auto last = static_cast<int>(rows * (t + 1) / prepared);
      for (auto row = static_cast<int>(rows * t / prepared); row < last; ++row) {
        finite[row] = variant.prepare(plan_, x, rows, row, loan.data());
      }
    });
    const double work = static_cast<double>(plan_.width) * static_cast<double>(plan_.out) * rows;
    const auto worth = static_cast<std::int64_t>(std::min(work / kWorthATask, static_cast<double>(kTasks)));
    const std::int64_t tasks = std::max<std::int64_t>(1, std::min(worth, plan_.blocks));
    run.parallel(static_cast<std::size_t>(tasks), [&](std::size_t task) {
      const auto t = static_cast<std::int64_t>(task);
      variant.multiply(plan_, w, loan.data(), rows, plan_.blocks * t / tasks, plan_.blocks * (t + 1) / tasks, y);
    });
    for (int row = 0; row < rows && plan_.digits > 1; ++row) {
      if (!finite[row]) int3::one_row(plan_, w, x + row * plan_.in, y + row * plan_.out);
    }
  }

  int group(std::int64_t given) const {
    if (given >= int3::kColumns && given <= int3::kLargestGroup && (given & (given - 1)) == 0) {
      return static_cast<int>(given);
    }
    throw Failure(name_ + ": group is " + std::to_string(given) + ", not a power of two from " +
                  std::to_string(int3::kColumns) + " to " + std::to_string(int3::kLargestGroup) + ".");
  }
  bool rotated(std::int64_t given) const {
    if (given == 0 || given == 1) return given == 1;
    throw Failure(name_ + ": rotated is " + std::to_string(given) + ", not 0 or 1.");
  }
  static int rotation_block(std::int64_t inputs) {
    int block = 1;
    while (block < inputs && block < int3::kLargestBlock) block *= 2;
    return block;
  }
  std::vector<std::int64_t> packed_shape() const { return {plan_.blocks, plan_.width / int3::kColumns, int3::kUnit}; }
  std::vector<std::int64_t> scales_shape() const { return {plan_.blocks, plan_.width / plan_.group, int3::kRows}; }

  const ort::Api& api_;
  std::string name_;
  bool constant_[3] = {};  // packed, scales, bias
  int3::Plan plan_{};
  Scratch scratch_;
};

struct Int8Kernel : Kernel {
  Int8Kernel(const ort::Api& api, const ort::KernelInfo& info) : Kernel(api, info, 1) {}
};

}  // namespace

const ort::CustomOp& int3_op(const Options& options) {
  static const ort::CustomOp exact = make_op<Kernel, kOp, 4, type_of>(), rounding = make_op<Int8Kernel, kOp, 4, type_of>();
  return options.int8_activations ? rounding : exact;
}

}  // namespace edgefc
