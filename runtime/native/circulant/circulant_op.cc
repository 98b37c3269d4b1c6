// edgefc::CirculantLinear: checks attributes and shapes, divides the batch into chunks, and calls the kernel of plan.h.
#include <algorithm>
#include <memory>

#include "circulant/plan.h"
#include "ort/kernel.h"

namespace edgefc {

namespace {

using circulant::up;

constexpr char kOp[] = "edgefc::CirculantLinear";
constexpr double kWorthATask = 1 << 20;  // multiply-adds, about ten microseconds
constexpr std::int64_t kTasks = 64;      // at most; enough to balance the threads

class Kernel {
 public:
  Kernel(const ort::Api& api, const ort::KernelInfo& info) : api_(api) {
    const Node node(api, info, kOp);
    name_ = node.name();
    sizes_ = {node.size("in_features"), node.size("out_features"), node.size("block"),
              static_cast<std::uint64_t>(node.whole("sign_seed"))};
    node.check_constant(2, "bias", sizes_.outputs);
    std::vector<std::int64_t> shape;
    const float* kernel = nullptr;
    if (node.constant(1, "kernel", shape, kernel)) plan_ = make(kernel, shape);
  }

  void run(ort::KernelContext& context) {
    const Run run(api_, context, name_);
    std::vector<std::int64_t> shape, kernel_shape;
    const float* x = run.input(0, shape);
    const std::int64_t rows = run.rows(shape, "in_features", sizes_.inputs);
    const float* bias = run.vector(2, "bias", sizes_.outputs);
    std::unique_ptr<circulant::Plan> made;  // if the model computes the kernel, each run computes its spectra
    if (!plan_) {
      const float* kernel = run.input(1, kernel_shape);
      made = make(kernel, kernel_shape);
    }
    const circulant::Plan& plan = plan_ ? *plan_ : *made;
    shape.back() = sizes_.outputs;
    float* y = run.output(shape);
    const double worth = std::min(plan.operations() * static_cast<double>(rows) / kWorthATask, double{kTasks});
    const std::int64_t wanted = std::max<std::int64_t>(1, static_cast<std::int64_t>(worth));
    const std::int64_t unit = plan.rows_together(), chunk = up(up(rows, wanted), unit) * unit;
    run.parallel(static_cast<std::size_t>(rows == 0 ? 0 : up(rows, chunk)), [&](std::size_t task) {
      const std::int64_t first = static_cast<std::int64_t>(task) * chunk, count = std::min(chunk, rows - first);
      plan.apply(x + first * sizes_.inputs, count, y + first * sizes_.outputs, bias, scratch_);
    });
  }

 private:
  std::unique_ptr<circulant::Plan> make(const float* kernel, const std::vector<std::int64_t>& shape) const {
    const std::int64_t p = up(sizes_.outputs, sizes_.block), q = up(sizes_.inputs, sizes_.block);
    if (shape != std::vector<std::int64_t>{p, q, sizes_.block}) {
      throw Failure(name_ + ": kernel has shape " + shown(shape) + ", not " + shown({p, q, sizes_.block}) + ".");
    }
    try {
      return std::make_unique<circulant::Plan>(sizes_, kernel, p * q * sizes_.block);
    } catch (const Failure& failure) {
      throw Failure(name_ + ": " + failure.what());
    }
  }

  const ort::Api& api_;
  std::string name_;
  circulant::Plan::Sizes sizes_{};
  std::unique_ptr<circulant::Plan> plan_;
  Scratch scratch_;
};

}  // namespace

const ort::CustomOp& circulant_op(const Options&) {
  static const ort::CustomOp op = make_op<Kernel, kOp, 3>();
  return op;
}

}  // namespace edgefc
