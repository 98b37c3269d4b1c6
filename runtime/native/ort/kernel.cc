#include "ort/kernel.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace edgefc {

namespace {

constexpr std::int64_t kLargest = 2147483647;  // largest size; keeps rows and columns in the generator's domain

constexpr std::size_t kLongestName = 200;      // most bytes of the name of a node in messages
constexpr std::int64_t kMostRows = 4294967295;  // times kLargest is below 2^63

struct Release {
  const ort::Api& api;
  ort::Shape* shape;
  ~Release() { api.ReleaseTensorTypeAndShapeInfo(shape); }
};

const char* type_name(ort::ElementType type) {
  return type == ort::kUint8 ? "uint8" : type == ort::kFloat16 ? "float16" : "float32";
}

// `what` returns the name of the value, for messages.
template <class What>
std::vector<std::int64_t> shape_of(const ort::Api& api, const ort::Value* value, const What& what,
                                   ort::ElementType wanted = ort::kFloat) {
  const auto unread = [&] { return what() + " has no shape."; };
  ort::Shape* info = nullptr;
  check(api, api.GetTensorTypeAndShape(value, &info), [&] { return what() + " is not a tensor."; });
  const Release release{api, info};
  ort::ElementType type{};
  std::size_t rank = 0;
  check(api, api.GetTensorElementType(info, &type), [&] { return what() + " has no element type."; });
  if (type != wanted) throw Failure(what() + " is not " + type_name(wanted) + ".");
  check(api, api.GetDimensionsCount(info, &rank), unread);
  std::vector<std::int64_t> shape(rank);
  check(api, api.GetDimensions(info, shape.data(), rank), unread);
  return shape;
}

template <class What>
const float* data_of(const ort::Api& api, const ort::Value* value, const What& what) {
  void* data = nullptr;
  check(api, api.GetTensorMutableData(const_cast<ort::Value*>(value), &data),
        [&] { return what() + " cannot be read."; });
  return static_cast<const float*>(data);
}

void check_shape(const std::vector<std::int64_t>& shape, const std::string& node, const char* what,
                 const std::vector<std::int64_t>& wanted) {
  if (shape == wanted) return;
  throw Failure(node + ": " + what + " has shape " + shown(shape) + ", not " + shown(wanted) + ".");
}

std::string input_name(const std::string& node, std::size_t index) { return node + ": input " + std::to_string(index); }

}  // namespace

std::string shown(const std::vector<std::int64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

ort::Status* status_of_exception(const ort::Api& api, const std::string& name, const char* purpose) noexcept {
  try {
    try {
      throw;
    } catch (const Failure& failure) {
      return api.CreateStatus(ort::kInvalidArgument, failure.what());
    } catch (const std::bad_alloc&) {
      return api.CreateStatus(ort::kFail, (name + ": there is not enough memory " + purpose + ".").c_str());
    } catch (const std::length_error&) {  // a vector that is too large to be addressed
      return api.CreateStatus(ort::kFail, (name + ": there is not enough memory " + purpose + ".").c_str());
    } catch (const std::exception& error) {
      return api.CreateStatus(ort::kFail, (name + ": " + error.what() + ".").c_str());
    }
  } catch (...) {
    return api.CreateStatus(ort::kFail, "edgefc: there is not enough memory for the message.");
  }
}

std::string node_name(const ort::Api& api, const ort::KernelInfo& info, const char* op) {
  const std::string unread = std::string(op) + ": the node's name cannot be read.";
  std::size_t size = 0;  // with the terminating zero
  check(api, api.KernelInfo_GetNodeName(&info, nullptr, &size), unread);
  std::string name(size, '\0');
  check(api, api.KernelInfo_GetNodeName(&info, name.data(), &size), unread);
  name.resize(size > 0 ? size - 1 : 0);
  if (name.size() > kLongestName) {  // onnxruntime truncates long messages, and the reason is at the end
    std::size_t end = kLongestName;
    while (end > 0 && (name[end] & 0xC0) == 0x80) --end;  // do not split a character
    name = name.substr(0, end) + "...";
  }
  return name.empty() ? op : std::string(op) + " " + name;
}

Node::Node(const ort::Api& api, const ort::KernelInfo& info, const char* op)
    : api_(api), info_(info), name_(node_name(api, info, op)) {}

std::int64_t Node::whole(const char* attribute) const {
  std::int64_t value = 0;
  check(api_, api_.KernelInfoGetAttribute_int64(&info_, attribute, &value),
        name_ + ": the attribute " + attribute + " is missing or not an integer.");
  return value;
}

std::int64_t Node::size(const char* attribute) const {
  const std::int64_t value = whole(attribute);
  if (value >= 1 && value <= kLargest) return value;
  throw Failure(name_ + ": " + attribute + " is " + std::to_string(value) + ", not from 1 to " +
                std::to_string(kLargest) + ".");
}

std::vector<float> Node::numbers(const char* attribute, std::size_t most) const {
  const std::string what = name_ + ": the attribute " + attribute;
  std::size_t size = 0;
  check(api_, api_.KernelInfoGetAttributeArray_float(&info_, attribute, nullptr, &size),
        what + " is missing or not a list of numbers.");
  if (size > most) throw Failure(what + " has " + std::to_string(size) + " numbers, above " + std::to_string(most) + ".");
  std::vector<float> values(size);
  check(api_, api_.KernelInfoGetAttributeArray_float(&info_, attribute, values.data(), &size), what + " cannot be read.");
  return values;
}

std::vector<float> Node::codebook(int& bits) const {
  const std::int64_t given = whole("bits");
  if (given != 1 && given != 2 && given != 4 && given != 8) {
    throw Failure(name_ + ": bits is " + std::to_string(given) + ", not 1, 2, 4 or 8.");
  }
  bits = static_cast<int>(given);
  std::vector<float> levels = numbers("codebook", 256);
  if (levels.size() != std::size_t{1} << bits) {
    throw Failure(name_ + ": the codebook has " + std::to_string(levels.size()) + " levels, and codes of " +
                  std::to_string(bits) + " bits need " + std::to_string(1 << bits) + ".");
  }
  for (const float level : levels) {
    if (!std::isfinite(level)) throw Failure(name_ + ": the codebook contains a level that is not finite.");
  }
  return levels;
}

const ort::Value* Node::constant(std::size_t input, const char* what) const {
  int known = 0;
  const ort::Value* value = nullptr;
  check(api_, api_.KernelInfoGetConstantInput_tensor(&info_, input, &known, &value),
        [&] { return name_ + ": " + what + " is missing."; });
  return known ? value : nullptr;
}

bool Node::constant(std::size_t input, const char* what, std::vector<std::int64_t>& shape,
                    const float*& numbers) const {
  const auto named = [&] { return name_ + ": " + what; };
  const ort::Value* value = constant(input, what);
  if (value == nullptr) return false;
  shape = shape_of(api_, value, named);
  numbers = data_of(api_, value, named);
  return true;
}

bool Node::check_constant(std::size_t input, const char* what, const std::vector<std::int64_t>& wanted,
                          ort::ElementType type) const {
  const ort::Value* value = constant(input, what);
  if (value == nullptr) return false;
  check_shape(shape_of(api_, value, [&] { return name_ + ": " + what; }, type), name_, what, wanted);
  return true;
}

bool Node::check_constant(std::size_t input, const char* what, std::int64_t length) const {
  return check_constant(input, what, std::vector<std::int64_t>{length});
}

const ort::Value* Run::value(std::size_t index) const {
  const auto missing = [&] { return input_name(name_, index) + " is missing."; };
  const ort::Value* value = nullptr;
  check(api_, api_.KernelContext_GetInput(&context_, index, &value), missing);
  if (value == nullptr) throw Failure(missing());
  return value;
}

const float* Run::input(std::size_t index, std::vector<std::int64_t>& shape) const {
  const auto what = [&] { return input_name(name_, index); };
  const ort::Value* given = value(index);
  shape = shape_of(api_, given, what);
  return data_of(api_, given, what);
}

const float* Run::checked(std::size_t index) const {
  return data_of(api_, value(index), [&] { return input_name(name_, index); });
}

const void* Run::stored(std::size_t index, const char* what, const std::vector<std::int64_t>& wanted,
                        ort::ElementType type) const {
  const auto named = [&] { return name_ + ": " + what; };
  const ort::Value* given = value(index);
  check_shape(shape_of(api_, given, named, type), name_, what, wanted);
  return data_of(api_, given, named);
}

std::int64_t Run::rows(const std::vector<std::int64_t>& shape, const char* attribute, std::int64_t size) const {
  if (shape.empty() || shape.back() != size) {
    throw Failure(name_ + ": x has shape " + shown(shape) + ", and its last axis is not " + attribute + " " +
                  std::to_string(size) + ".");
  }
  const std::vector<std::int64_t> axes(shape.begin(), shape.end() - 1);
  std::int64_t rows = 1;
  for (const std::int64_t axis : axes) rows = axis == 0 ? 0 : rows;
  for (const std::int64_t axis : axes) {
    if (axis < 0 || (rows > 0 && axis > kMostRows / rows)) {
      throw Failure(name_ + ": x has shape " + shown(shape) + ", which is more than " + std::to_string(kMostRows) +
                    " rows.");
    }
    rows *= axis;
  }
  return rows;
}

const float* Run::tensor(std::size_t index, const char* what, const std::vector<std::int64_t>& wanted) const {
  std::vector<std::int64_t> shape;
  const float* data = input(index, shape);
  check_shape(shape, name_, what, wanted);
  return data;
}

const float* Run::vector(std::size_t index, const char* what, std::int64_t length) const {
  return tensor(index, what, {length});
}

float* Run::output(const std::vector<std::int64_t>& shape) const {
  ort::Value* value = nullptr;
  void* data = nullptr;
  check(api_, api_.KernelContext_GetOutput(&context_, 0, shape.data(), shape.size(), &value),
        [&] { return name_ + ": no memory for an output of shape " + shown(shape) + "."; });
  check(api_, api_.GetTensorMutableData(value, &data), [&] { return name_ + ": the output cannot be written."; });
  return static_cast<float*>(data);
}

}  // namespace edgefc
