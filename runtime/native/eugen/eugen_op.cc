// edgefc::EUGenLinear: checks attributes and shapes, divides the batch into chunks, and calls the kernel of eugen.h.
#include <algorithm>
#include <cmath>

#include "simd/activations.h"
#include "eugen/eugen.h"
#include "ort/kernel.h"

namespace edgefc {

namespace {

constexpr char kOp[] = "edgefc::EUGenLinear";
constexpr double kWorthATask = 1 << 18;  // multiply-adds, about ten microseconds
constexpr std::int64_t kTasks = 16;      // about, in one group
constexpr std::int64_t kMostOrder = 32;
constexpr std::int64_t kMostRows = 2147483647;  // of G, the generator's domain

std::int64_t up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

class Kernel {
 public:
  Kernel(const ort::Api& api, const ort::KernelInfo& info) : api_(api), variant_(eugen::variant()) {
    const Node node(api, info, kOp);
    name_ = node.name();
    plan_.in = node.size("in_features");
    plan_.out = node.size("out_features");
    plan_.features = node.size("features");
    plan_.order = within(node, "order", 1, kMostOrder);
    plan_.shared = within(node, "shared", 0, 1) == 1;
    plan_.norm = within(node, "norm", 0, 1) == 1;
    plan_.one = within(node, "one", 0, 1) == 1;
    plan_.activation = static_cast<int>(within(node, "activation", 0, kActivations - 1));
    plan_.keys = keys(static_cast<std::uint64_t>(node.whole("seed")));
    plan_.width = plan_.in + plan_.one + plan_.norm;
    plan_.made = plan_.order * plan_.features;
    plan_.rows = plan_.features * (plan_.shared ? plan_.order : plan_.order * (plan_.order + 1) / 2);
    if (plan_.rows > kMostRows) {
      throw Failure(name_ + ": its projections have " + std::to_string(plan_.rows) + " rows, above " +
                    std::to_string(kMostRows) + ".");
    }
    read_codebook(node);
    node.check_constant(1, "weight", {plan_.out, plan_.made});
    node.check_constant(2, "bias", plan_.out);
    if (plan_.bits == 8 && up(plan_.rows, variant_.band) * variant_.band <= eugen::kMostStored / plan_.width) {
      stored_.resize(static_cast<std::size_t>(up(plan_.rows, variant_.band) * variant_.band * plan_.width));
      variant_.make(plan_, stored_.data());
      plan_.stored = stored_.data();
    }
  }

  void run(ort::KernelContext& context) {
    const Run run(api_, context, name_);
    std::vector<std::int64_t> shape;
    const float* x = run.input(0, shape);
    const std::int64_t rows = run.rows(shape, "in_features", plan_.in);
    const float* weight = run.tensor(1, "weight", {plan_.out, plan_.made});
    const float* bias = run.vector(2, "bias", plan_.out);
    shape.back() = plan_.out;
    float* y = run.output(shape);
    const std::int64_t each = eugen::kEnds + z_step() + plan_.made;
    const std::int64_t most = std::max<std::int64_t>(1, std::min(eugen::kMostScratch / each, eugen::kChunk));
    for (std::int64_t row = 0; row < rows; row += most * kTasks) {
      const std::int64_t count = std::min(most * kTasks, rows - row);
      one_group(run, x + row * plan_.in, count, up(count, up(count, most)), weight, bias, y + row * plan_.out);
    }
  }

 private:
  std::int64_t z_step() const { return up(plan_.rows, variant_.band) * variant_.band; }

  // At most kTasks chunks of `size` rows. Each of the two products is divided further if the tasks remain large enough:
  // the first by bands of G, the second by outputs.
  void one_group(const Run& run, const float* x, std::int64_t rows, std::int64_t size, const float* weight,
                 const float* bias, float* y) {
    const std::int64_t chunks = up(rows, size), bands = up(plan_.rows, variant_.band), step = z_step();
    const Scratch::Loan loan(scratch_, static_cast<std::size_t>(rows * (eugen::kEnds + step + plan_.made)));
    float *z = loan.data(), *f = z + rows * step, *ends = f + rows * plan_.made;
    const auto first_of = [size](std::int64_t c) { return c * size; };
    const auto count_of = [size, rows](std::int64_t c) { return std::min(size, rows - c * size); };
    const auto products = [&](std::int64_t parts, double columns, const auto& part) {
      const double worth = std::min(columns * static_cast<double>(rows) / kWorthATask, double{kTasks});
      const std::int64_t cut = std::max<std::int64_t>(1, std::min(up(static_cast<std::int64_t>(worth), chunks), parts));
      run.parallel(static_cast<std::size_t>(chunks * cut), [&](std::size_t task) {
        const std::int64_t c = static_cast<std::int64_t>(task) / cut, t = static_cast<std::int64_t>(task) % cut;
        part(c, parts * t / cut, parts * (t + 1) / cut);
      });
    };
    run.parallel(static_cast<std::size_t>(chunks), [&](std::size_t task) {
      const std::int64_t c = static_cast<std::int64_t>(task), at = first_of(c);
      variant_.end(plan_, x + at * plan_.in, count_of(c), ends + at * eugen::kEnds);
    });
    const double inner = static_cast<double>(plan_.width) * static_cast<double>(step);
    products(bands, inner, [&](std::int64_t c, std::int64_t first, std::int64_t last) {
      const std::int64_t at = first_of(c);
      variant_.project(plan_, x + at * plan_.in, ends + at * eugen::kEnds, count_of(c), first, last, z + at * step);
    });
    run.parallel(static_cast<std::size_t>(chunks), [&](std::size_t task) {
      const std::int64_t c = static_cast<std::int64_t>(task), at = first_of(c);
      variant_.combine(plan_, z + at * step, count_of(c), f + at * plan_.made);
    });
    const std::int64_t tiles = up(plan_.out, variant_.band);
    products(tiles, static_cast<double>(plan_.made) * static_cast<double>(plan_.out),
             [&](std::int64_t c, std::int64_t first, std::int64_t last) {
               const std::int64_t at = first_of(c), end = std::min(last * variant_.band, plan_.out);
               variant_.apply(plan_, f + at * plan_.made, count_of(c), weight, bias, first * variant_.band, end,
                              y + at * plan_.out);
             });
  }

  std::int64_t within(const Node& node, const char* attribute, std::int64_t least, std::int64_t most) const {
    const std::int64_t value = node.whole(attribute);
    if (value >= least && value <= most) return value;
    throw Failure(name_ + ": " + attribute + " is " + std::to_string(value) + ", not from " + std::to_string(least) +
                  " to " + std::to_string(most) + ".");
  }

  void read_codebook(const Node& node) {
    levels_ = node.codebook(plan_.bits);
    const auto squares = static_cast<double>((plan_.in + plan_.one) * (plan_.norm ? 2 : 1));
    const auto root = static_cast<float>(std::sqrt(squares));
    for (float& level : levels_) level /= root;
    while (levels_.size() < 16) levels_.push_back(levels_[levels_.size() - (std::size_t{1} << plan_.bits)]);
    plan_.levels = levels_.data();
  }

  const ort::Api& api_;
  const eugen::Variant& variant_;
  std::string name_;
  std::vector<float> levels_, stored_;
  eugen::Plan plan_{};
  Scratch scratch_;
};

}  // namespace

const ort::CustomOp& eugen_op(const Options&) {
  static const ort::CustomOp op = make_op<Kernel, kOp, 3>();
  return op;
}

}  // namespace edgefc
