// Hostile and ordinary nodes through every operator of the library, on every variant that this processor runs.
//
//   native_fuzz SECONDS SEED            random cases
//   native_fuzz threads SECONDS SEED    ordinary cases, several runs of one kernel at the same time
//   with -DEDGEFC_LIBFUZZER -fsanitize=fuzzer, libFuzzer chooses the bytes, by what they reach
//
// The file EDGEFC_FUZZ_LOG holds the case that is running.
// Either a kernel refuses in one sentence that names its layer, or all variants answer alike, to the bit again in a
// second run, behind a smaller batch and with other threads. Memory errors, undefined behaviour and races are the
// sanitizers' to find. A new operator is one function here that makes an ordinary node, and its name in kMakers.
#include <chrono>
#include <cmath>
#include <functional>

#include "native_host.h"

extern "C" const char* EdgefcNativeCpu();

namespace {

using namespace edgefc;
using Sizes = std::vector<std::int64_t>;

// Choices, from bytes; the first of each once they are used up.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}
  std::uint32_t below(std::size_t n) { return static_cast<std::uint32_t>(byte() % n); }
  bool one_in(std::size_t n) { return below(n) == n - 1; }
  template <class T, std::size_t N>
  const T& of(const T (&all)[N]) {
    return all[below(N)];
  }
  std::uint64_t whole() {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value;
  }

 private:
  std::uint8_t byte() { return at_ < end_ ? *at_++ : 0; }
  const std::uint8_t *at_, *end_;
};

constexpr std::int64_t kSizes[] = {4, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65, 97, 100, 127, 128, 130, 257};
constexpr std::int64_t kRows[] = {1, 2, 0, 3, 4, 5, 7, 8, 9, 16, 17, 64, 65};
constexpr std::int64_t kHostile[] = {0, -1, 1, 2, 3, 5, 9, 63, 65, 255, 65536, INT64_C(1) << 30, INT64_C(1) << 31,
                                     (INT64_C(1) << 31) - 1, (INT64_C(1) << 32) + 4, INT64_C(1) << 61, INT64_C(1) << 62,
                                     INT64_MAX, INT64_MIN, -(INT64_C(1) << 31)};
const float kOdd[] = {NAN, INFINITY, -INFINITY, 1e18f, -0.0f, 1e-40f};  // products of two stay below 2^128

ort::Value tensor(const Sizes& sizes, std::uint32_t seed, int type = ort::kFloat) {
  ort::Value value(sizes, host::numbers(sizes.data(), sizes.size()), type);
  for (std::size_t i = 0; i < value.count; ++i) {
    seed = seed * 1664525 + 1013904223;
    if (type == ort::kUint8) {
      value.bytes()[i] = static_cast<std::uint8_t>(seed >> 24);
    } else if (type == ort::kFloat16) {
      value.halves()[i] = static_cast<std::uint16_t>((seed >> 16 & 0x83FF) | 0x2800);  // of size 1 / 32 to 1 / 16
    } else {
      value.data()[i] = static_cast<float>(static_cast<std::int32_t>(seed) / 1073741824.0);  // -2 to 2
    }
  }
  return value;
}

struct Case {
  const char* op;
  ort::KernelInfo info;
  std::vector<ort::Value> inputs;  // x first
  std::vector<bool> constant;      // none of x
  double tolerance = 1e-4;         // of the largest term
  std::map<std::string, std::string> options = {};
  bool ordinary = true;

  void weights(const std::vector<Sizes>& shapes) {
    for (const Sizes& shape : shapes) inputs.push_back(tensor(shape, static_cast<std::uint32_t>(inputs.size() * 77 + 5)));
    constant.assign(inputs.size(), true);
    constant[0] = false;
  }
};

// ---- an ordinary node of each operator

Case prp(Bytes& bytes) {
  const std::int64_t n = bytes.of(kSizes), m = bytes.of(kSizes), rows = bytes.of(kRows);
  const int bits = 1 << bytes.below(4), kind = static_cast<int>(bytes.below(3));
  Case made{"PRPLinear", {}, {}, {}};
  made.info.wholes = {{"in_features", n}, {"out_features", m}, {"bits", bits},
                      {"seed", static_cast<std::int64_t>(bytes.whole())}};
  for (int code = 0; code < 1 << bits; ++code) {  // any levels, runs of equal ones, equal distances
    const double levels[] = {std::sin(code + 1.0), static_cast<double>(code / 60), code - 127.5};
    made.info.lists["codebook"].push_back(static_cast<float>(bits == 1 ? 2 * code - 1 : levels[kind] / 64));
  }
  made.weights({{rows, n}, {n}, {m}, {m}});
  if (bytes.one_in(3)) made.options["edgefc.activations"] = "int8", made.tolerance = 0.05;
  return made;
}

Case circulant(Bytes& bytes) {
  const std::int64_t n = bytes.of(kSizes), m = bytes.of(kSizes), rows = bytes.of(kRows), longest = std::max(n, m);
  const std::int64_t block = bytes.one_in(2) ? std::min(longest, bytes.of(kSizes)) : longest;
  Case made{"CirculantLinear", {}, {}, {}};
  made.info.wholes = {{"in_features", n}, {"out_features", m}, {"block", block},
                      {"sign_seed", static_cast<std::int64_t>(bytes.whole())}};
  made.weights({{rows, n}, {(m + block - 1) / block, (n + block - 1) / block, block}, {m}});
  return made;
}

Case tied(Bytes& bytes) {
  const std::int64_t d = bytes.of(kSizes), h = bytes.of(kSizes), rows = bytes.of(kRows);
  Case made{"TiedFFN", {}, {}, {}};
  made.info.wholes = {{"d_model", d}, {"d_hidden", h}, {"activation", bytes.below(9)}};
  made.weights({{rows, d}, {h, d}, {h}, {d}});
  return made;
}

Case eugen(Bytes& bytes) {
  const std::int64_t n = bytes.of(kSizes), m = bytes.of(kSizes), rows = bytes.of(kRows);
  const std::int64_t features = bytes.of(kSizes), order = 1 + bytes.below(3);
  const int bits = 1 << bytes.below(4);
  Case made{"EUGenLinear", {}, {}, {}};
  made.info.wholes = {{"in_features", n}, {"out_features", m}, {"features", features}, {"order", order},
                      {"shared", bytes.below(2)}, {"norm", bytes.below(2)}, {"one", bytes.below(2)},
                      {"activation", bytes.below(9)}, {"bits", bits},
                      {"seed", static_cast<std::int64_t>(bytes.whole())}};
  for (int code = 0; code < 1 << bits; ++code) {
    made.info.lists["codebook"].push_back(static_cast<float>(std::sin(code + 1.0) / 64));
  }
  made.weights({{rows, n}, {m, order * features}, {m}});
  return made;
}

Case int3(Bytes& bytes) {
  const std::int64_t n = bytes.of(kSizes), m = bytes.of(kSizes), rows = bytes.of(kRows);
  const std::int64_t group = 32 << bytes.below(4), rotated = bytes.below(2);
  std::int64_t block = 1;
  while (rotated && block < n && block < 128) block *= 2;
  const std::int64_t multiple = std::max(group, block), width = (n + multiple - 1) / multiple * multiple;
  const std::int64_t blocks = (m + 15) / 16;
  Case made{"Int3Linear", {}, {}, {}};
  made.info.wholes = {{"in_features", n}, {"out_features", m}, {"group", group}, {"rotated", rotated},
                      {"seed", static_cast<std::int64_t>(bytes.whole())}};
  made.weights({{rows, n}, {blocks, width / 32, 192}, {blocks, width / group, 16}, {m}});
  made.inputs[1] = tensor(made.inputs[1].shape.sizes, 5, ort::kUint8);
  made.inputs[2] = tensor(made.inputs[2].shape.sizes, 6, ort::kFloat16);
  if (bytes.one_in(3)) made.options["edgefc.activations"] = "int8", made.tolerance = 0.05;
  return made;
}

constexpr Case (*kMakers[])(Bytes&) = {prp, circulant, tied, eugen, int3};

// ---- what hostile files and callers change

void change_attribute(Case& made, Bytes& bytes) {
  auto& wholes = made.info.wholes;
  auto& lists = made.info.lists;
  std::size_t which = bytes.below(wholes.size() + lists.size());
  if (which >= wholes.size()) {
    auto list = std::next(lists.begin(), static_cast<std::ptrdiff_t>(which - wholes.size()));
    std::vector<float>& values = list->second;
    switch (bytes.below(4)) {
      case 0: lists.erase(list); return;
      case 1: values.resize(bytes.below(2) * 300 + bytes.below(9)); return;
      case 2: if (!values.empty()) values[bytes.below(values.size())] = bytes.of(kOdd); return;
      default: wholes[list->first] = 1; lists.erase(list); return;
    }
  }
  const auto whole = std::next(wholes.begin(), static_cast<std::ptrdiff_t>(which));
  switch (bytes.below(8)) {
    case 0: wholes.erase(whole); return;
    case 1: lists[whole->first] = {1}; wholes.erase(whole); return;
    default: whole->second = bytes.one_in(4) ? static_cast<std::int64_t>(bytes.whole()) : bytes.of(kHostile); return;
  }
}

void change_shape(ort::Value& value, Bytes& bytes) {
  Sizes sizes = value.shape.sizes;
  switch (bytes.below(6)) {
    case 0: sizes.clear(); break;
    case 1: sizes.insert(sizes.begin(), std::int64_t{bytes.below(3)}); break;
    case 2: if (!sizes.empty()) sizes[bytes.below(sizes.size())] += bytes.one_in(2) ? 1 : -1; break;
    case 3: if (!sizes.empty()) sizes.pop_back(); break;
    case 4: sizes.insert(sizes.begin(), {INT64_C(1) << 62, INT64_C(1) << 62, 0}); break;  // empty, whatever it says
    default: std::swap(sizes.front(), sizes.back()); break;
  }
  for (std::int64_t& size : sizes) size = std::max<std::int64_t>(size, 0);
  value = tensor(sizes, 9, value.shape.type);
}

void change(Case& made, Bytes& bytes) {
  made.ordinary = false;
  const std::size_t which = bytes.below(made.inputs.size());
  ort::Value& input = made.inputs[which];
  switch (bytes.below(6)) {
    case 0: return change_attribute(made, bytes);
    case 1: if (!input.shape.sizes.empty()) change_shape(input, bytes); return;
    case 2: if (input.floats()) input.data()[bytes.whole() % input.count] = bytes.of(kOdd); return;
    case 3: made.constant[which] = false; return;
    case 4: input.shape.type = input.floats() ? ort::kDouble : ort::kInt8; return;
    default: made.inputs.resize(made.inputs.size() - 1); made.constant.pop_back(); return;
  }
}

std::string described(const Case& made) {
  std::string text = std::string(made.op) + (made.options.empty() ? "" : " with int8 activations") + " of";
  for (const auto& [name, value] : made.info.wholes) text += " " + name + "=" + std::to_string(value);
  const auto unusual = [&](const float* values, std::size_t count) {
    for (std::size_t k = 0; k < count; ++k) {
      if (!(std::fabs(values[k]) <= 2)) text += " [" + std::to_string(k) + "]=" + std::to_string(values[k]);
    }
  };
  for (const auto& [name, values] : made.info.lists) {
    text += " " + name + "[" + std::to_string(values.size()) + "]";
    unusual(values.data(), values.size());
  }
  for (std::size_t i = 0; i < made.inputs.size(); ++i) {
    text += i == 0 ? "; x (" : made.constant[i] ? "; constant (" : "; computed (";
    for (const std::int64_t size : made.inputs[i].shape.sizes) text += std::to_string(size) + ",";
    text += ")";
    unusual(made.inputs[i].data(), made.inputs[i].floats());
  }
  return text;
}

[[noreturn]] void broken(const Case& made, const std::string& what) {
  std::fprintf(stderr, "BROKEN: %s\nby %s\n", what.c_str(), described(made).c_str());
  std::abort();
}

// ---- one case on one variant

std::string said(ort::Status* status) {
  const std::unique_ptr<ort::Status> owned(status);
  return owned ? (owned->message.empty() ? "?" : owned->message) : "";
}

class Kernel {
 public:
  Kernel(Case& made, const char* cpu) : case_(made), op_(host::find(made.op, made.options)) {
    setenv("EDGEFC_NATIVE_CPU", cpu, 1);
    made.info.constants.clear();
    for (std::size_t i = 0; i < made.inputs.size(); ++i) {
      made.info.constants.push_back(made.constant[i] ? &made.inputs[i] : nullptr);
    }
    refused = said(op_.CreateKernelV2(&op_, &host::api(), &made.info, &kernel_));
  }
  ~Kernel() {
    if (refused.empty()) op_.KernelDestroy(kernel_);
  }
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  ort::Value run(std::size_t threads, std::string& why, const ort::Value* another_x = nullptr) const {
    ort::KernelContext context;
    context.threads = threads;
    for (const ort::Value& input : case_.inputs) context.inputs.push_back(&input);
    if (another_x != nullptr && !context.inputs.empty()) context.inputs[0] = another_x;
    why = said(op_.KernelComputeV2(kernel_, &context));
    return std::move(context.output);
  }

  std::string refused;

 private:
  const Case& case_;
  const ort::CustomOp& op_;
  void* kernel_ = nullptr;
};

void check_sentence(const Case& made, const std::string& why) {
  const std::string& name = made.info.name;
  const std::string shown = name.size() > 200 ? name.substr(0, 200) + "..." : name;
  const std::string layer = "edgefc::" + std::string(made.op) + (name.empty() ? "" : " " + shown);
  if (made.ordinary) broken(made, "an ordinary node is refused: " + why);
  if (why.rfind(layer + ": ", 0) != 0 || why.back() != '.' || why.find("::_M") != why.npos) {
    broken(made, "not one sentence that names the layer: " + why);
  }
}

bool same(const ort::Value& a, const ort::Value& b) {
  return a.count == b.count && a.shape.sizes == b.shape.sizes &&
         (a.count == 0 || std::memcmp(a.data(), b.data(), 4 * a.count) == 0);
}

bool alike(const Case& made, const ort::Value& a, const ort::Value& b) {
  if (a.count != b.count || a.shape.sizes != b.shape.sizes) return false;
  double largest = 1;
  const auto consider = [&](const float* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      if (std::isfinite(values[i])) largest = std::max(largest, std::fabs(double{values[i]}));
    }
  };
  for (const ort::Value& input : made.inputs) consider(input.data(), input.floats());
  for (const auto& [name, values] : made.info.lists) consider(values.data(), values.size());
  for (std::size_t i = 0; i < a.count; ++i) {
    const float p = a.data()[i], q = b.data()[i];
    if (std::isnan(p) != std::isnan(q)) return false;
    if (!std::isnan(p) && p != q && !(std::fabs(double{p} - q) <= made.tolerance * (largest + std::fabs(q)))) {
      std::fprintf(stderr, "number %zu: %.9g and %.9g\n", i, double{p}, double{q});
      return false;
    }
  }
  return true;
}

const std::vector<const char*>& variants() {
  static const std::vector<const char*> found = [] {
    std::vector<const char*> names;
    for (const char* name : {"portable", "avx2", "avx512", "neon"}) {
      setenv("EDGEFC_NATIVE_CPU", name, 1);
      if (EdgefcNativeCpu() != nullptr) names.push_back(name);
    }
    unsetenv("EDGEFC_NATIVE_CPU");
    return names;
  }();
  return found;
}

std::int64_t width(const ort::Value& x) {
  return x.shape.sizes.empty() ? 1 : std::min<std::int64_t>(x.shape.sizes.back(), 4096);
}

void try_case(Case& made) {
  std::string first_refusal;
  ort::Value first;
  for (std::size_t v = 0; v < variants().size(); ++v) {
    Kernel kernel(made, variants()[v]);
    std::string why = kernel.refused;
    ort::Value y, again;
    if (why.empty()) {
      const ort::Value few = tensor({1, made.inputs.empty() ? 1 : width(made.inputs[0])}, 3);
      kernel.run(1, why, &few);  // so that scratch for one row meets the batch
      y = kernel.run(1, why);
    }
    if (!why.empty()) check_sentence(made, why);
    if (why.empty()) {
      again = kernel.run(3, why);
      if (!why.empty() || !same(y, again)) broken(made, std::string(variants()[v]) + ": another answer in a second run");
    }
    if (v == 0) first_refusal = why, first = std::move(y);
    else if (first_refusal != why) broken(made, first_refusal + " / " + why);
    else if (!alike(made, first, y)) broken(made, std::string(variants()[v]) + " answers otherwise than portable");
  }
}

Case make(Bytes& bytes) {
  Case made = bytes.of(kMakers)(bytes);
  static const std::string names[] = {"encoder.fc1", "", "%s%n %1000d", "\xC3\xA9", std::string(300, 'a')};
  made.info.name = bytes.of(names);
  return made;
}

void log_case(const Case& made, const std::uint8_t* data, std::size_t size) {
  static const char* const path = std::getenv("EDGEFC_FUZZ_LOG");
  std::FILE* log = path ? std::fopen(path, "w") : nullptr;
  if (log == nullptr) return;
  std::fprintf(log, "%s, by the bytes", described(made).c_str());
  for (std::size_t i = 0; i < size; ++i) std::fprintf(log, " %d", data[i]);
  std::fclose(log);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  Case made = make(bytes);
  for (std::uint32_t changes = bytes.below(3); changes > 0 && !made.inputs.empty(); --changes) change(made, bytes);
  log_case(made, data, size);
  try_case(made);
  return 0;
}

#if !defined(EDGEFC_LIBFUZZER)
// Several runs of one kernel at the same time.
static void try_threads(Case& made) {
  for (const char* variant : variants()) {
    const Kernel kernel(made, variant);
    if (!kernel.refused.empty()) broken(made, kernel.refused);
    std::string why;
    const ort::Value expected = kernel.run(1, why);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        std::string mine;
        const ort::Value y = kernel.run(2, mine);
        wrong += !mine.empty() || !same(y, expected);
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (wrong) broken(made, std::string(variant) + ": other answers in threads");
  }
}

int main(int count, char** words) {
  const bool threads = count == 4 && std::strcmp(words[1], "threads") == 0;
  if (count != 3 + threads) return 2;
  const double seconds = std::atof(words[1 + threads]);
  std::uint64_t state = std::strtoull(words[2 + threads], nullptr, 10);
  const auto start = std::chrono::steady_clock::now();
  long cases = 0;
  for (; std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds; ++cases) {
    std::uint8_t data[64];
    for (std::uint8_t& byte : data) {
      state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
      byte = static_cast<std::uint8_t>(state >> 56);
    }
    if (threads) {
      Bytes bytes(data, sizeof data);
      Case made = make(bytes);
      log_case(made, data, sizeof data);
      try_threads(made);
    } else {
      LLVMFuzzerTestOneInput(data, sizeof data);
    }
  }
  std::printf("%ld cases\n", cases);
}
#endif
