// edgefc::TiedFFN: checks attributes and shapes, divides the batch into chunks and W into strips, calls tied.h's
// kernel.
#include <algorithm>

#include "simd/activations.h"
#include "ort/kernel.h"
#include "tied/tied.h"

namespace edgefc {

namespace {

constexpr char kOp[] = "edgefc::TiedFFN";
constexpr double kWorthATask = 1 << 20;  // multiply-adds, about twenty microseconds
constexpr std::int64_t kLine = 64;       // bytes of a cache line; this many floats are whole lines
constexpr std::int64_t kTasks = 8;       // approximate number in one group; each strip except the first has its own y

std::int64_t up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

class Kernel {
 public:
  Kernel(const ort::Api& api, const ort::KernelInfo& info) : api_(api), variant_(tied::variant()) {
    const Node node(api, info, kOp);
    name_ = node.name();
    plan_.d = node.size("d_model");
    plan_.h = node.size("d_hidden");
    const std::int64_t code = node.whole("activation");
    if (code < 0 || code >= kActivations) {
      throw Failure(name_ + ": activation is " + std::to_string(code) + ", not from 0 to " +
                    std::to_string(kActivations - 1) + ".");
    }
    plan_.activation = static_cast<int>(code);
    plan_.tile = tied::tile_of(plan_.d);
    node.check_constant(1, "weight", {plan_.h, plan_.d});
    node.check_constant(2, "bias_in", plan_.h);
    node.check_constant(3, "bias_out", plan_.d);
  }

  void run(ort::KernelContext& context) {
    const Run run(api_, context, name_);
    std::vector<std::int64_t> shape;
    const float* x = run.input(0, shape);
    const std::int64_t rows = run.rows(shape, "d_model", plan_.d), group = tied::chunk_of(plan_.d) * kTasks;
    const float* w = run.tensor(1, "weight", {plan_.h, plan_.d});
    const float* bias_in = run.vector(2, "bias_in", plan_.h);
    const float* bias_out = run.vector(3, "bias_out", plan_.d);
    float* y = run.output(shape);
    for (std::int64_t row = 0; row < rows; row += group) {
      const std::int64_t at = row * plan_.d;
      one_group(run, x + at, std::min(group, rows - row), w, bias_in, bias_out, y + at);
    }
  }

 private:
  // At most kTasks chunks, each with as many strips as give about kTasks tasks in total.
  void one_group(const Run& run, const float* x, std::int64_t rows, const float* w, const float* bias_in,
                 const float* bias_out, float* y) {
    const std::int64_t d = plan_.d, size = up(up(rows, up(rows, tied::chunk_of(d))), 6) * 6, chunks = up(rows, size);
    const std::int64_t tiles = up(plan_.h, plan_.tile);
    const double work = 2 * static_cast<double>(d) * static_cast<double>(plan_.h) * static_cast<double>(rows);
    const auto worth = static_cast<std::int64_t>(std::min(work / kWorthATask, double{kTasks}));
    const std::int64_t strips = std::max<std::int64_t>(1, std::min(up(worth, chunks), tiles));
    // Rows that are not aligned to cache lines make the first product a fifth slower, so they are copied to aligned
    // memory.
    const bool copied = rows > 1 && reinterpret_cast<std::uintptr_t>(x) % kLine != 0;
    const std::int64_t copy = copied ? up(rows * d, kLine) * kLine : 0;
    const Scratch::Loan loan(scratch_, static_cast<std::size_t>(copy + (strips - 1) * rows * d));
    float* apart = loan.data() + copy;
    if (copied) {
      std::copy_n(x, rows * d, loan.data());
      x = loan.data();
    }
    run.parallel(static_cast<std::size_t>(strips * chunks), [&](std::size_t task) {
      const std::int64_t s = static_cast<std::int64_t>(task) / chunks, c = static_cast<std::int64_t>(task) % chunks;
      const std::int64_t first = tiles * s / strips * plan_.tile;
      const std::int64_t last = std::min(tiles * (s + 1) / strips * plan_.tile, plan_.h);
      const std::int64_t count = std::min(size, rows - c * size), at = c * size * d;
      float* to = s == 0 ? y + at : apart + (s - 1) * rows * d + at;
      for (std::int64_t b = 0; b < count; ++b) {
        if (s == 0) std::copy_n(bias_out, d, to + b * d);
        else std::fill_n(to + b * d, d, 0.0f);
      }
      variant_.strip(plan_, x + at, count, w, bias_in, first, last, to);
    });
    if (strips == 1) return;
    run.parallel(static_cast<std::size_t>(chunks), [&](std::size_t c) {
      const std::int64_t from = static_cast<std::int64_t>(c) * size * d, to = std::min(from + size * d, rows * d);
      for (std::int64_t s = 1; s < strips; ++s) {
        const float* added = apart + (s - 1) * rows * d;
        for (std::int64_t i = from; i < to; ++i) y[i] += added[i];
      }
    });
  }

  const ort::Api& api_;
  const tied::Variant& variant_;
  std::string name_;
  tied::Plan plan_{};
  Scratch scratch_;
};

}  // namespace

const ort::CustomOp& tied_op(const Options&) {
  static const ort::CustomOp op = make_op<Kernel, kOp, 4>();
  return op;
}

}  // namespace edgefc
