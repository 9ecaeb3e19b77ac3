// An ONNX file, field by field. Field numbers are those of onnx/onnx.proto3.

#include "graph.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "text.hpp"

namespace vitrail::onnx {

namespace {

constexpr std::size_t kMostNodes = 65'536, kMostTensors = 65'536;

struct Field {  // varints come as `number`, all else as `bytes`
  std::uint64_t key = 0;
  bool is_number = false;
  std::uint64_t number = 0;
  std::string_view bytes;

  std::string_view message() const {
    if (is_number) throw refused("a number stands where a message is needed");
    return bytes;
  }
  std::int64_t integer() const {
    if (!is_number) throw refused("a message stands where a number is needed");
    return static_cast<std::int64_t>(number);
  }
  std::string_view text() const {
    for (std::size_t at = 0; at < message().size();) {
      const std::uint32_t point = next_point(bytes, at);
      if (point >= 0xD800 && point < 0xE000) throw refused("a name is no UTF-8");
    }
    return bytes;
  }
};

std::uint64_t varint(std::string_view view, std::size_t& at) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 70 && at < view.size(); shift += 7) {
    const auto byte = static_cast<unsigned char>(view[at++]);
    value |= shift < 64 ? static_cast<std::uint64_t>(byte & 127) << shift : 0;
    if (byte < 128) return value;
  }
  throw refused("a number leads beyond its end");
}

// The fields of one message, one after the other.
class Fields {
 public:
  explicit Fields(std::string_view view) : view_(view) {}

  bool next(Field& field) {
    if (at_ >= view_.size()) return false;
    const std::uint64_t key = varint(view_, at_), wire = key & 7;
    field = {key >> 3, wire == 0, 0, {}};
    if (wire == 0) {
      field.number = varint(view_, at_);
      return true;
    }
    if (wire != 1 && wire != 2 && wire != 5) throw refused("a wire type that is none");
    const std::uint64_t size = wire == 2 ? varint(view_, at_) : wire == 1 ? 8 : 4;
    if (field.key == 0 || size > view_.size() - at_) throw refused("a field leads beyond its end");
    field.bytes = view_.substr(at_, size);
    at_ += size;
    return true;
  }

 private:
  std::string_view view_;
  std::size_t at_ = 0;
};

void append_integers(const Field& field, std::vector<std::int64_t>& to) {
  if (field.is_number) {
    to.push_back(field.integer());
    return;
  }
  for (std::size_t at = 0; at < field.bytes.size();) to.push_back(static_cast<std::int64_t>(varint(field.bytes, at)));
}

float single(std::string_view bytes) {
  if (bytes.size() != sizeof(float)) throw refused("a number is cut");
  float value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

std::string_view packed(const Field& field) {
  if (field.message().size() % 4 != 0) throw refused("a list of numbers is cut");
  return field.bytes;
}

std::size_t width_of(std::int64_t kind) {
  switch (kind) {
    case 1: case 6:
      return 4;
    case 7: case 11:
      return 8;
    case 2: case 3: case 9:
      return 1;
    case 10:
      return 2;
    default:
      return 0;
  }
}

Tensor tensor_of(std::string_view view) {
  Tensor tensor;
  int parts = 0;
  bool by_one = false;
  std::vector<std::int64_t> whole;
  Fields fields(view);
  for (Field field; fields.next(field);) {
    if (field.key == 1) {
      append_integers(field, tensor.shape);
    } else if (field.key == 2) {
      tensor.kind = field.integer();
    } else if (field.key == 8) {
      tensor.name = field.text();
    } else if (field.key == 9 || field.key == 4) {
      tensor.data = field.key == 4 ? packed(field) : field.message();
      ++parts;
    } else if (field.key == 7) {
      append_integers(field, tensor.integers);
      by_one = true;
    } else if (field.key == 13 || (field.key == 14 && !(field.is_number && field.number == 0))) {
      throw refused("a constant lies in another file");
    } else if (field.key == 3 || field.key == 5 || field.key == 6 || field.key == 10 || field.key == 11) {
      throw refused("a constant is split, or stored in a way that our exporter does not use");
    }
  }
  if (parts + by_one > 1) throw refused("a constant is split, or stored in a way that our exporter does not use");
  const std::size_t width = width_of(tensor.kind);
  if (width == 0 || tensor.shape.size() > 8 || (by_one && width != 8)) throw refused("a constant has an unknown type, or more than 8 sides");
  std::uint64_t count = 1;
  for (const std::int64_t side : tensor.shape) {
    if (side < 0 || (side > 0 && count > (std::uint64_t{1} << 40) / static_cast<std::uint64_t>(side))) throw refused("a constant of no possible shape");
    count *= static_cast<std::uint64_t>(side);
  }
  if ((by_one ? tensor.integers.size() * 8 : tensor.data.size()) != count * width) throw refused("a constant has another number of bytes than its shape");
  return tensor;
}

std::pair<std::string_view, Attribute> attribute_of(std::string_view view) {
  std::string_view name;
  Attribute content;
  std::vector<float> floats;
  std::vector<std::int64_t> integers;
  Fields fields(view);
  for (Field field; fields.next(field);) {
    if (field.key >= 2 && field.key <= 5 && content.index() != 0) throw refused("an attribute has two values");
    switch (field.key) {
      case 1:
        name = field.text();
        break;
      case 2:
        content = single(field.message());
        break;
      case 3:
        content = field.integer();
        break;
      case 4:
        content = field.message();
        break;
      case 5:
        content = tensor_of(field.message());
        break;
      case 7:
        for (std::string_view rest = packed(field); !rest.empty(); rest.remove_prefix(4)) floats.push_back(single(rest.substr(0, 4)));
        break;
      case 8:
        append_integers(field, integers);
        break;
      case 13:
      case 20:  // documentation, type
        break;
      default:
        throw refused("an attribute holds a subgraph, a reference or a list of tensors");
    }
  }
  if (content.index() != 0) return {name, content};
  if (!floats.empty()) return {name, floats};
  return {name, integers};
}

Node node_of(std::string_view view) {
  Node node;
  Fields fields(view);
  for (Field field; fields.next(field);) {
    if (field.key == 1) node.inputs.push_back(field.text());
    if (field.key == 2) node.outputs.push_back(field.text());
    if (field.key == 4) node.kind = field.text();
    if (field.key == 5 && !node.attributes.insert(attribute_of(field.message())).second) throw refused("an attribute stands twice");
    if (field.key == 7 && !field.text().empty() && field.bytes != "ai.onnx") throw refused("an operator of a foreign domain");
  }
  if (node.outputs.empty()) throw refused("an operator without an output");
  return node;
}

std::int64_t side_of(std::string_view view) {
  Fields fields(view);
  for (Field field; fields.next(field);) {
    if (field.key == 1) {
      if (field.integer() < 0 || field.integer() > std::numeric_limits<std::int32_t>::max()) throw refused("an end of no possible shape");
      return field.integer();
    }
  }
  return -1;
}

End end_of(std::string_view view) {
  End end;
  Fields fields(view);
  for (Field field; fields.next(field);) {
    if (field.key == 1) end.name = field.text();
    if (field.key != 2) continue;
    Fields kinds(field.message());
    for (Field kind; kinds.next(kind);) {
      if (kind.key != 1) throw refused("an end is no tensor");
      Fields parts(kind.message());
      for (Field part; parts.next(part);) {
        if (part.key == 1) end.kind = part.integer();
        if (part.key != 2) continue;
        Fields sides(part.message());
        for (Field side; sides.next(side);) end.shape.push_back(side_of(side.message()));
      }
    }
  }
  return end;
}

void read_body(Graph& graph, std::string_view view) {
  Fields fields(view);
  for (Field field; fields.next(field);) {
    if (field.key == 1) {
      graph.nodes.push_back(node_of(field.message()));
    } else if (field.key == 5) {
      Tensor tensor = tensor_of(field.message());
      const std::string_view name = tensor.name;
      if (name.empty() || !graph.constants.emplace(name, std::move(tensor)).second) throw refused("a constant stands twice");
    } else if (field.key == 11 || field.key == 12) {
      (field.key == 11 ? graph.inputs : graph.outputs).push_back(end_of(field.message()));
    } else if (field.key == 14 || field.key == 15) {
      throw refused("it holds quantization or sparse tensors");
    }
    if (graph.nodes.size() > kMostNodes || graph.constants.size() > kMostTensors) throw refused("more than 65536 nodes or constants");
  }
}

// Every value is made once, before its use; there is one input, and one output or three.
void check_names(const Graph& graph) {
  if (graph.inputs.size() != 1 || (graph.outputs.size() != 1 && graph.outputs.size() != 3)) throw refused("one input is needed, and one output or three");
  std::set<std::string_view> known = {graph.inputs[0].name};
  for (const auto& [name, tensor] : graph.constants) {
    if (!known.insert(name).second) throw refused("its input is also a constant");
  }
  for (const Node& node : graph.nodes) {
    for (const auto& name : node.inputs) {
      if (!name.empty() && known.count(name) == 0) throw refused("a value is used before it is made");
    }
    for (const auto& name : node.outputs) {
      if (!name.empty() && !known.insert(name).second) throw refused("a value is made twice");
    }
  }
  for (const End& end : graph.outputs) {
    if (known.count(end.name) == 0) throw refused("its output is never made");
  }
}

}  // namespace

Error refused(const std::string& what) { return Error("V505", "the graph is refused: " + what, {}, "export the model again"); }

std::size_t Tensor::count() const {
  std::size_t all = 1;
  for (const std::int64_t side : shape) all *= static_cast<std::size_t>(side);
  return all;
}

std::int64_t Tensor::integer(std::size_t at) const {
  if (!integers.empty()) return integers[at];
  std::int64_t value = 0;
  std::int32_t small = 0;
  if (kind == 7) std::memcpy(&value, data.data() + 8 * at, 8);
  if (kind == 6) std::memcpy(&small, data.data() + 4 * at, 4);
  if (kind == 3) return static_cast<signed char>(data[at]);
  return kind == 7 ? value : kind == 6 ? small : static_cast<unsigned char>(data[at]);
}

double Tensor::number(std::size_t at) const {
  if (kind == 1) return single(data.substr(4 * at, 4));
  double value = 0;
  if (kind == 11) std::memcpy(&value, data.data() + 8 * at, 8);
  if (kind == 10) {  // half precision: sign, 5 bits of exponent, 10 of fraction
    const unsigned bits = static_cast<unsigned char>(data[2 * at]) | static_cast<unsigned>(static_cast<unsigned char>(data[2 * at + 1])) << 8;
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double fraction = static_cast<double>(bits & 1023) / 1024;
    value = exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15);
    if (bits >> 15) value = -value;
  }
  return value;
}

Graph read(std::string_view data) {
  Graph graph;
  std::vector<std::string_view> bodies;
  Fields fields(data);
  for (Field field; fields.next(field);) {
    if (field.key == 7) {
      bodies.push_back(field.message());
    } else if (field.key == 8) {
      std::int64_t version = 0;
      Fields parts(field.message());
      for (Field part; parts.next(part);) {
        if (part.key == 1 && !part.text().empty() && part.bytes != "ai.onnx") throw refused("operators of a foreign domain");
        if (part.key == 2) version = part.integer();
      }
      if (graph.opset != 0 || version < 1 || version > 1000) throw refused("versions of the operators that are none");
      graph.opset = version;
    } else if (field.key == 14) {
      std::string_view key, value;
      Fields parts(field.message());
      for (Field part; parts.next(part);) {
        const std::string_view text = part.text();
        if (part.key == 1) key = text;
        if (part.key == 2) value = text;
      }
      if (!graph.metadata.emplace(key, value).second) throw refused("a metadata key stands twice");
    } else if (field.key == 20 || field.key == 25) {
      throw refused("it holds functions or training steps");
    }
  }
  if (bodies.size() != 1 || graph.opset < 1) throw refused("it holds no graph, or no version of the standard operators");
  read_body(graph, bodies[0]);
  check_names(graph);
  return graph;
}

}  // namespace vitrail::onnx
