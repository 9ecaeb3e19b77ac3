// The operators a graph may have, and how big each of its values becomes: worked out before an engine gives memory.
// One function an operator gives the shapes of its outputs, for a batch of kBatch; short lists of whole numbers are
// followed too, because exporters compute shapes with them. Operators that loop or call are on no list.

#include <algorithm>
#include <numeric>
#include <optional>

#include "graph.hpp"

namespace vitrail::onnx {

namespace {

#include "limits.inc"

struct NoFit {};  // the shapes at a node do not fit: told with the node's place by who asked

using Integers = std::vector<std::int64_t>;

struct Known {  // of a value: its shape, and its content where it is a short list of whole numbers
  Shape shape;
  std::optional<Integers> value;
};

using Given = std::vector<const Known*>;
using Rule = std::vector<Known> (*)(const Node&, const Given&);

void need(bool holds) {
  if (!holds) throw NoFit();
}

// Elements of a shape; more than 2^40 are told as 2^40.
std::int64_t product(const Shape& shape) {
  std::int64_t all = 1;
  for (const std::int64_t side : shape) {
    need(side >= 0);
    if (side == 0) return 0;
    all = all > (std::int64_t{1} << 40) / side ? std::int64_t{1} << 40 : all * side;
  }
  return all;
}

const Known& at(const Given& given, std::size_t place) {
  need(place < given.size());
  return *given[place];
}

const Attribute* attribute(const Node& node, std::string_view name) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() || found->second.index() == 0 ? nullptr : &found->second;
}

std::int64_t integer(const Node& node, std::string_view name, std::int64_t otherwise) {
  const Attribute* value = attribute(node, name);
  if (value == nullptr) return otherwise;
  need(std::holds_alternative<std::int64_t>(*value));
  return std::get<std::int64_t>(*value);
}

Integers integers(const Node& node, std::string_view name, Integers otherwise) {
  const Attribute* value = attribute(node, name);
  if (value == nullptr) return otherwise;
  need(std::holds_alternative<Integers>(*value));
  return std::get<Integers>(*value);
}

const Integers& content(const Known& known) {
  need(known.value.has_value());
  return *known.value;
}

std::size_t axis_of(std::int64_t axis, std::size_t rank) {
  const auto most = static_cast<std::int64_t>(rank);
  need(axis >= -most && axis < most);
  return static_cast<std::size_t>(axis < 0 ? axis + most : axis);
}

Shape broadcast(const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape shape(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t left = i + a.size() < rank ? 1 : a[i + a.size() - rank], right = i + b.size() < rank ? 1 : b[i + b.size() - rank];
    need(left == right || left == 1 || right == 1);
    shape[i] = left == 1 ? right : left;
  }
  return shape;
}

Known constant(const Tensor& tensor) {
  Known known = {tensor.shape, std::nullopt};
  const std::size_t count = tensor.count();
  if (!tensor.is_integer() || count > static_cast<std::size_t>(kFollowed)) return known;
  known.value.emplace();
  for (std::size_t i = 0; i < count; ++i) known.value->push_back(tensor.integer(i));
  return known;
}

std::vector<Known> same(const Node&, const Given& given) { return {{at(given, 0).shape, std::nullopt}}; }
std::vector<Known> copied(const Node&, const Given& given) { return {at(given, 0)}; }

std::int64_t combined(std::string_view kind, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  if (kind == "Add") need(!__builtin_add_overflow(a, b, &out));
  if (kind == "Sub") need(!__builtin_sub_overflow(a, b, &out));
  if (kind == "Mul") need(!__builtin_mul_overflow(a, b, &out));
  if (kind == "Div") {
    need(!(b == -1 && a == INT64_MIN));
    out = a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
  }
  return out;
}

std::vector<Known> together(const Node& node, const Given& given) {
  Known out = {at(given, 0).shape, std::nullopt};
  for (const Known* item : given) out.shape = broadcast(out.shape, item->shape);
  const Known &a = *given.front(), &b = *given.back();
  const bool known = node.kind == "Add" || node.kind == "Sub" || node.kind == "Mul" || node.kind == "Div";
  const std::int64_t count = product(out.shape);
  if (!known || given.size() != 2 || !a.value || !b.value || count > kFollowed || out.shape.size() > 1) return {out};
  if (node.kind == "Div" && std::count(b.value->begin(), b.value->end(), 0) != 0) return {out};
  out.value.emplace();
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    out.value->push_back(combined(node.kind, (*a.value)[a.value->size() == 1 ? 0 : i], (*b.value)[b.value->size() == 1 ? 0 : i]));
  }
  return {out};
}

std::size_t clipped(std::int64_t place, std::size_t rank) {  // as Python's slices
  const auto most = static_cast<std::int64_t>(rank);
  return static_cast<std::size_t>(std::clamp<std::int64_t>(place < 0 ? place + most : place, 0, most));
}

std::vector<Known> shape_of(const Node& node, const Given& given) {
  const Shape& shape = at(given, 0).shape;
  const std::size_t start = clipped(integer(node, "start", 0), shape.size());
  const std::size_t end = std::max(start, clipped(integer(node, "end", static_cast<std::int64_t>(shape.size())), shape.size()));
  const Integers value(shape.begin() + static_cast<std::ptrdiff_t>(start), shape.begin() + static_cast<std::ptrdiff_t>(end));
  return {{{static_cast<std::int64_t>(value.size())}, value}};
}

std::vector<Known> given_constant(const Node& node, const Given&) {
  const Attribute* value = attribute(node, "value");
  if (value == nullptr) value = attribute(node, "value_int");
  if (value == nullptr) value = attribute(node, "value_ints");
  if (value == nullptr) return {Known{}};
  if (const auto* tensor = std::get_if<Tensor>(value)) return {constant(*tensor)};
  if (const auto* one = std::get_if<std::int64_t>(value)) return {{{}, Integers{*one}}};
  if (const auto* list = std::get_if<Integers>(value)) return {{{static_cast<std::int64_t>(list->size())}, *list}};
  return {Known{}};
}

std::vector<Known> concat(const Node& node, const Given& given) {
  Known out = {at(given, 0).shape, Integers{}};
  const std::size_t axis = axis_of(integer(node, "axis", 0), out.shape.size());
  out.shape[axis] = 0;
  for (const Known* item : given) {
    need(item->shape.size() == out.shape.size());
    for (std::size_t i = 0; i < out.shape.size(); ++i) need(i == axis || item->shape[i] == out.shape[i]);
    out.shape[axis] += item->shape[axis];
    if (!item->value || out.shape.size() != 1) out.value.reset();
    if (out.value) out.value->insert(out.value->end(), item->value->begin(), item->value->end());
  }
  if (product(out.shape) > kFollowed) out.value.reset();
  return {out};
}

std::vector<Known> gather(const Node& node, const Given& given) {
  const Known &data = at(given, 0), &index = at(given, 1);
  const auto axis = static_cast<std::ptrdiff_t>(axis_of(integer(node, "axis", 0), data.shape.size()));
  Known out = {Shape(data.shape.begin(), data.shape.begin() + axis), std::nullopt};
  out.shape.insert(out.shape.end(), index.shape.begin(), index.shape.end());
  out.shape.insert(out.shape.end(), data.shape.begin() + axis + 1, data.shape.end());
  if (!data.value || !index.value || data.shape.size() != 1 || product(out.shape) > kFollowed) return {out};
  out.value.emplace();
  for (const std::int64_t place : *index.value) out.value->push_back((*data.value)[axis_of(place, data.value->size())]);
  return {out};
}

// The places that Python's slice(start, end, step) takes of `side`; open: without an end.
Integers sliced(std::int64_t side, std::int64_t start, std::int64_t end, std::int64_t step, bool open) {
  const std::int64_t low = step < 0 ? -1 : 0, high = step < 0 ? side - 1 : side;
  const auto settled = [&](std::int64_t place) { return std::clamp(place < 0 ? place + side : place, low, high); };
  const std::int64_t first = settled(start), last = open ? low : settled(end);
  const std::int64_t count = std::max<std::int64_t>(step > 0 ? (last - first + step - 1) / step : (first - last - step - 1) / -step, 0);
  return {count, first};
}

std::vector<Known> slice(const Node& node, const Given& given) {
  const Known& data = at(given, 0);
  const Integers &starts = content(at(given, 1)), &ends = content(at(given, 2));
  Integers axes(starts.size()), steps(starts.size(), 1);
  std::iota(axes.begin(), axes.end(), 0);
  if (given.size() > 3 && !node.inputs[3].empty()) axes = content(*given[3]);
  if (given.size() > 4) steps = content(*given[4]);
  need(axes.size() == starts.size() && ends.size() == starts.size() && steps.size() == starts.size());
  Known out = data;
  constexpr std::int64_t kFar = std::int64_t{1} << 40;  // beyond every side
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t axis = axis_of(axes[i], data.shape.size());
    const std::int64_t step = std::clamp(steps[i], -kFar, kFar), end = std::clamp(ends[i], -kFar, kFar);
    need(step != 0);
    const bool open = step < 0 && ends[i] < -static_cast<std::int64_t>(data.shape.size());
    const Integers taken = sliced(data.shape[axis], std::clamp(starts[i], -kFar, kFar), end, step, open);
    out.shape[axis] = taken[0];
    if (!data.value || data.shape.size() != 1) continue;
    out.value.emplace();
    for (std::int64_t j = 0; j < taken[0]; ++j) out.value->push_back((*data.value)[static_cast<std::size_t>(taken[1] + j * step)]);
  }
  return {out};
}

std::vector<Known> squeeze(const Node&, const Given& given) {
  Known out = at(given, 0);
  std::vector<bool> gone(out.shape.size(), given.size() < 2);
  if (given.size() > 1) {
    for (const std::int64_t axis : content(*given[1])) {
      gone[axis_of(axis, out.shape.size())] = true;
      need(out.shape[axis_of(axis, out.shape.size())] == 1);
    }
  }
  Shape shape;
  for (std::size_t i = 0; i < out.shape.size(); ++i) {
    if (!gone[i] || out.shape[i] != 1) shape.push_back(out.shape[i]);
  }
  out.shape = shape;
  return {out};
}

std::vector<Known> unsqueeze(const Node&, const Given& given) {
  Known out = at(given, 0);
  const Integers& axes = content(at(given, 1));
  std::vector<bool> fresh(out.shape.size() + axes.size(), false);
  for (const std::int64_t axis : axes) fresh[axis_of(axis, fresh.size())] = true;
  Shape shape;
  std::size_t next = 0;
  for (const bool is_new : fresh) {
    need(is_new || next < out.shape.size());
    shape.push_back(is_new ? 1 : out.shape[next++]);
  }
  need(next == out.shape.size());
  out.shape = shape;
  return {out};
}

std::vector<Known> reshape(const Node& node, const Given& given) {
  Known out = at(given, 0);
  Shape sides = content(at(given, 1));
  const std::int64_t all = product(out.shape);
  for (std::size_t i = 0; i < sides.size() && integer(node, "allowzero", 0) == 0; ++i) {
    if (sides[i] == 0) {
      need(i < out.shape.size());
      sides[i] = out.shape[i];
    }
  }
  const auto free = std::find(sides.begin(), sides.end(), -1);
  if (free != sides.end()) {
    *free = 1;
    const std::int64_t rest = product(sides);
    need(rest > 0);
    *free = all / rest;
  }
  need(product(sides) == all && all < std::int64_t{1} << 40);
  out.shape = sides;
  return {out};
}

std::vector<Known> flatten(const Node& node, const Given& given) {
  const Shape& shape = at(given, 0).shape;
  const auto axis = static_cast<std::ptrdiff_t>(clipped(integer(node, "axis", 1), shape.size()));
  return {{{product(Shape(shape.begin(), shape.begin() + axis)), product(Shape(shape.begin() + axis, shape.end()))}, std::nullopt}};
}

std::vector<Known> expand(const Node&, const Given& given) {
  Shape sides = content(at(given, 1));
  for (std::int64_t& side : sides) side = std::max<std::int64_t>(side, 0);
  need(product(sides) <= kLargest);
  return {{broadcast(at(given, 0).shape, sides), std::nullopt}};
}

std::vector<Known> transpose(const Node& node, const Given& given) {
  const Shape& shape = at(given, 0).shape;
  Integers order(shape.size());
  std::iota(order.rbegin(), order.rend(), 0);
  order = integers(node, "perm", order);
  Integers sorted = order;
  std::sort(sorted.begin(), sorted.end());
  need(sorted.size() == shape.size());
  Known out;
  for (std::size_t i = 0; i < order.size(); ++i) {
    need(sorted[i] == static_cast<std::int64_t>(i));
    out.shape.push_back(shape[static_cast<std::size_t>(order[i])]);
  }
  return {out};
}

std::vector<Known> split(const Node& node, const Given& given) {
  const Shape& shape = at(given, 0).shape;
  const std::size_t axis = axis_of(integer(node, "axis", 0), shape.size()), count = node.outputs.size();
  need(count > 0);
  const auto parts = static_cast<std::int64_t>(count);
  Integers sides(count - 1, (shape[axis] + parts - 1) / parts);
  if (given.size() > 1 && !node.inputs[1].empty()) sides = content(*given[1]);
  for (const std::int64_t side : sides) need(side >= 0 && side <= shape[axis]);
  if (sides.size() < count) sides.push_back(shape[axis] - std::accumulate(sides.begin(), sides.end(), std::int64_t{0}));
  need(std::accumulate(sides.begin(), sides.end(), std::int64_t{0}) == shape[axis]);
  std::vector<Known> found;
  for (const std::int64_t side : sides) {
    found.push_back({shape, std::nullopt});
    found.back().shape[axis] = side;
  }
  return found;
}

std::vector<Known> matmul(const Node&, const Given& given) {
  const Shape &a = at(given, 0).shape, &b = at(given, 1).shape;
  need(a.size() >= 2 && b.size() >= 2 && a.back() == b[b.size() - 2]);
  Shape shape = broadcast(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  shape.insert(shape.end(), {a[a.size() - 2], b.back()});
  return {{shape, std::nullopt}};
}

std::vector<Known> gemm(const Node& node, const Given& given) {
  Shape a = at(given, 0).shape, b = at(given, 1).shape;
  if (integer(node, "transA", 0) != 0) std::reverse(a.begin(), a.end());
  if (integer(node, "transB", 0) != 0) std::reverse(b.begin(), b.end());
  need(a.size() == 2 && b.size() == 2 && a[1] == b[0]);
  return {{{a[0], b[1]}, std::nullopt}};
}

// Convolutions and pools, without the automatic paddings that our exporter does not write.
std::vector<Known> window(const Node& node, const Given& given) {
  const Shape& shape = at(given, 0).shape;
  const std::int64_t ceil = integer(node, "ceil_mode", 0);
  if (const Attribute* pad = attribute(node, "auto_pad")) need(std::holds_alternative<std::string_view>(*pad) && std::get<std::string_view>(*pad) == "NOTSET");
  need(shape.size() == 4 && (ceil == 0 || ceil == 1));
  const bool convolution = node.kind == "Conv";
  Integers kernel;
  if (convolution) need(at(given, 1).shape.size() == 4);
  kernel = convolution ? Integers(given[1]->shape.begin() + 2, given[1]->shape.end()) : integers(node, "kernel_shape", {});
  const Integers strides = integers(node, "strides", {1, 1}), dilations = integers(node, "dilations", {1, 1}), pads = integers(node, "pads", {0, 0, 0, 0});
  need(kernel.size() == 2 && pads.size() == 4 && strides.size() == 2 && dilations.size() == 2);
  Shape out = {shape[0], convolution ? given[1]->shape[0] : shape[1]};
  for (std::size_t i = 0; i < 2; ++i) {
    constexpr std::int64_t kMost = 1 << 20;
    for (const std::int64_t value : {kernel[i], strides[i], dilations[i]}) need(value >= 1 && value <= kMost);
    for (const std::int64_t value : {pads[i], pads[i + 2]}) need(value >= 0 && value <= kMost);
    const std::int64_t room = shape[i + 2] + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1;
    need(room >= 0);
    std::int64_t count = (ceil != 0 ? (room + strides[i] - 1) / strides[i] : room / strides[i]) + 1;
    if (ceil != 0 && (count - 1) * strides[i] >= shape[i + 2] + pads[i]) --count;  // it would begin behind the picture
    out.push_back(count);
  }
  return {{out, std::nullopt}};
}

std::vector<Known> reduce(const Node& node, const Given& given) {
  const Shape& shape = at(given, 0).shape;
  Integers axes(shape.size());
  std::iota(axes.begin(), axes.end(), 0);
  axes = given.size() > 1 ? content(*given[1]) : integers(node, "axes", axes);
  std::vector<bool> gone(shape.size(), false);
  for (const std::int64_t axis : axes) gone[axis_of(axis, shape.size())] = true;
  Known out;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (!gone[i]) out.shape.push_back(shape[i]);
    if (gone[i] && integer(node, "keepdims", 1) != 0) out.shape.push_back(1);
  }
  return {out};
}

std::vector<Known> top(const Node& node, const Given& given) {
  Shape shape = at(given, 0).shape;
  const Integers count = content(at(given, 1));
  const std::size_t axis = axis_of(integer(node, "axis", -1), shape.size());
  need(count.size() == 1 && count[0] >= 0 && count[0] <= shape[axis]);
  shape[axis] = count[0];
  return {{shape, std::nullopt}, {shape, std::nullopt}};
}

const std::map<std::string_view, Rule>& rules() {
  static const std::map<std::string_view, Rule> all = {
      {"Add", together},   {"Cast", copied},     {"Concat", concat},   {"Constant", given_constant}, {"Conv", window},
      {"DequantizeLinear", same},                {"Div", together},   {"Erf", same},        {"Expand", expand},   {"Flatten", flatten},         {"Gather", gather},
      {"Gelu", same},      {"Gemm", gemm},       {"Identity", copied}, {"InstanceNormalization", same},
      {"LayerNormalization", same},              {"MatMul", matmul},   {"MaxPool", window},          {"Mul", together},
      {"Pow", together},   {"QuantizeLinear", same},                 {"ReduceMean", reduce}, {"Relu", same},     {"Reshape", reshape},         {"Shape", shape_of},
      {"Sigmoid", same},   {"Slice", slice},     {"Softmax", same},    {"Split", split},             {"Sqrt", same},
      {"Squeeze", squeeze}, {"Sub", together},   {"Tanh", same},       {"TopK", top},       {"Transpose", transpose},     {"Unsqueeze", unsqueeze},
  };
  return all;
}

std::vector<Known> outputs(const Node& node, std::size_t place, const std::map<std::string_view, Known>& known) {
  const auto rule = rules().find(node.kind);
  if (rule == rules().end()) throw refused("the operator `" + std::string(node.kind.substr(0, 40)) + "` is not on the list of allowed ones");
  Given given;
  for (const auto& name : node.inputs) given.push_back(&known.at(name));
  try {
    std::vector<Known> found = rule->second(node, given);
    need(found.size() >= node.outputs.size());
    for (const Known& item : found) product(item.shape);
    return found;
  } catch (const NoFit&) {
    throw refused("the shapes at node " + std::to_string(place) + " (" + std::string(node.kind.substr(0, 40)) + ") do not fit");
  }
}

Shape settled(Shape shape) {
  for (std::int64_t& side : shape) side = side < 0 ? kBatch : side;
  return shape;
}

}  // namespace

void check_sizes(const Graph& graph) {
  std::map<std::string_view, Known> known = {{"", {}}};
  for (const auto& [name, tensor] : graph.constants) known[name] = constant(tensor);
  for (const End& end : graph.inputs) known[end.name] = {settled(end.shape), std::nullopt};
  std::int64_t total = 0;
  for (std::size_t place = 0; place < graph.nodes.size(); ++place) {
    const Node& node = graph.nodes[place];
    std::vector<Known> found = outputs(node, place, known);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const std::int64_t size = product(found[i].shape);
      total += size;
      if (size > kLargest || total > kTotal) throw refused("node " + std::to_string(place) + " (" + std::string(node.kind) + ") exceeds the memory allowed");
      known[node.outputs[i]] = std::move(found[i]);
    }
  }
  for (const End& end : graph.outputs) {
    if (known[end.name].shape != settled(end.shape)) throw refused("its output has another shape than it declares");
  }
}

}  // namespace vitrail::onnx
