// What an ONNX file holds, read within bounds before an engine sees it: vitrail/engines/{graph,bounds,facts}.py.
// Refused is everything that an exported network never has and that could reach other files, run code, loop, or fill
// the memory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "manifest.hpp"

namespace vitrail {

namespace onnx {

using Shape = std::vector<std::int64_t>;

struct Tensor {
  std::string_view name;
  std::int64_t kind = 0;  // TensorProto.DataType
  Shape shape;
  std::string_view data;
  std::vector<std::int64_t> integers;  // in place of data, where they were stored one by one
  std::size_t count() const;
  bool is_integer() const { return kind == 2 || kind == 3 || kind == 6 || kind == 7; }
  std::int64_t integer(std::size_t at) const;
  double number(std::size_t at) const;
};

using Attribute = std::variant<std::monostate, std::int64_t, float, std::string_view, std::vector<std::int64_t>, std::vector<float>, Tensor>;

struct Node {
  std::string_view kind;
  std::vector<std::string_view> inputs, outputs;
  std::map<std::string_view, Attribute> attributes;
};

struct End {  // an input or output: -1 for a free side
  std::string_view name;
  std::int64_t kind = 0;
  Shape shape;
};

struct Graph {
  std::int64_t opset = 0;
  std::vector<Node> nodes;
  std::map<std::string_view, Tensor> constants;
  std::vector<End> inputs, outputs;
  std::map<std::string_view, std::string_view> metadata;
};

Error refused(const std::string& what);  // V505

Graph read(std::string_view data);      // Error V505
void check_sizes(const Graph& graph);   // Error V505: an operator on no list, shapes that do not fit, too much memory

}  // namespace onnx

// The ONNX graph is harmless (V505 else) and is the one that the manifest describes (V502 else).
void check_graph(std::string_view data, const Manifest& manifest, const EngineEntry& entry);

}  // namespace vitrail
