// The graph against its manifest: what it says itself of the things that exporters get wrong.

#include "facts.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "graph.hpp"
#include "text.hpp"

namespace vitrail {

namespace {

using json::Object;
using json::Value;
using onnx::Graph;
using onnx::Node;

Error other_graph(const EngineEntry& entry, const std::string& what) {
  return Error("V502", "`" + entry.file + "` is not the graph that the manifest describes", {what}, "export again");
}

// Every number that stands alone in the graph, as a constant or in a node.
std::vector<double> scalars(const Graph& graph) {
  std::vector<double> found;
  const auto take = [&](const onnx::Tensor& tensor) {
    if (tensor.count() == 1 && (tensor.kind == 1 || tensor.kind == 10 || tensor.kind == 11)) found.push_back(tensor.number(0));
  };
  for (const auto& [name, tensor] : graph.constants) take(tensor);
  for (const Node& node : graph.nodes) {
    const auto value = node.attributes.find("value");
    if (value == node.attributes.end()) continue;
    if (const auto* tensor = std::get_if<onnx::Tensor>(&value->second)) take(*tensor);
  }
  return found;
}

std::set<std::string> gelu_forms(const Graph& graph) {
  std::set<std::string> forms;
  std::set<std::string, std::less<>> kinds;
  for (const Node& node : graph.nodes) {
    kinds.emplace(node.kind);
    if (node.kind != "Gelu") continue;
    const auto form = node.attributes.find("approximate");
    const auto* word = form == node.attributes.end() ? nullptr : std::get_if<std::string_view>(&form->second);
    forms.insert(word != nullptr && *word == "tanh" ? "tanh" : "erf");
  }
  forms.merge(written_out(kinds, scalars(graph)));
  return forms;
}

Value epsilons(const Graph& graph, std::string_view kind) {
  std::set<double> found;
  for (const Node& node : graph.nodes) {
    if (node.kind != kind) continue;
    const auto value = node.attributes.find("epsilon");
    const auto* epsilon = value == node.attributes.end() ? nullptr : std::get_if<float>(&value->second);
    found.insert(in_float32(epsilon == nullptr ? 1e-5f : *epsilon));
  }
  return listed(found);
}

// The values as one text, so that two of them are compared at once.
std::string shown(const Value& value) {
  double number = 0;
  if (value.is_number(number)) return json::number(number);
  if (const auto* text = value.text()) return json::quoted(*text);
  std::string all;
  if (const auto* list = value.list()) {
    for (const Value& item : *list) all += (all.empty() ? "" : ", ") + shown(item);
    return "[" + all + "]";
  }
  if (const auto* object = value.object()) {
    for (const auto& [key, item] : *object) all += (all.empty() ? "" : ", ") + json::quoted(key) + ": " + shown(item);
    return "{" + all + "}";
  }
  return value.null() ? "null" : "a word";
}

// Products whose weights are stored in 8 bits.
std::int64_t in_int8(const Graph& graph) {
  std::set<std::string_view> weights;
  for (const Node& node : graph.nodes) {
    if (node.kind == "DequantizeLinear" && graph.constants.count(node.inputs[0]) != 0) weights.insert(node.outputs[0]);
  }
  return std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    return (node.kind == "Conv" || node.kind == "Gemm" || node.kind == "MatMul") && weights.count(node.inputs[1]) != 0;
  });
}

Object facts_of(const Graph& graph) {
  std::map<std::string, std::int64_t> counts;
  Object operators;
  bool grouped = false;
  for (const Node& node : graph.nodes) {
    ++counts[std::string(node.kind)];
    grouped = grouped || node.kind == "InstanceNormalization";
  }
  for (const auto& [kind, count] : counts) operators.emplace_back(kind, Value{count});
  Object facts;
  facts.emplace_back("gelu", listed(gelu_forms(graph)));
  if (const std::int64_t count = in_int8(graph); count > 0) facts.emplace_back("int8", Value{count});
  if (grouped) facts.emplace_back("groupnorm_eps", epsilons(graph, "InstanceNormalization"));
  facts.emplace_back("layernorm_eps", epsilons(graph, "LayerNormalization"));
  facts.emplace_back("operators", Value{operators});
  facts.emplace_back("opset", Value{graph.opset});
  return facts;
}

#include "limits.inc"

void check_ends(const Graph& graph, const Manifest& manifest, const EngineEntry& entry) {
  const onnx::End &in = graph.inputs[0], &out = graph.outputs[0];
  static constexpr std::int64_t kTopKinds[] = {1, 7};  // float32 and int64
  const bool pixels = entry.takes == "pixels";
  const std::int64_t batch = entry.batch == 0 ? -1 : entry.batch, height = manifest.policy.height, width = manifest.policy.width;
  const std::int64_t channels = manifest.policy.channels(), classes = static_cast<std::int64_t>(manifest.classes.size());
  const onnx::Shape wanted = pixels ? onnx::Shape{batch, height, width, channels} : onnx::Shape{batch, channels, height, width};
  if (in.name != entry.input || out.name != entry.output || in.kind != (pixels ? 2 : 1) || out.kind != 1) {
    throw onnx::refused("its ends are not those that the manifest names");
  }
  if (in.shape != wanted || out.shape != onnx::Shape{batch, classes}) throw onnx::refused("its ends have other shapes than the manifest says");
  if (graph.outputs.size() != (entry.top == 0 ? 1 : 3)) throw onnx::refused("it gives more or less than the manifest says");
  for (std::size_t i = 1; i < graph.outputs.size(); ++i) {
    const onnx::End& best = graph.outputs[i];
    const bool fits = best.name == kTop[i - 1] && best.kind == kTopKinds[i - 1] && best.shape == onnx::Shape{batch, entry.top};
    if (!fits) throw onnx::refused("its best classes are not those that the manifest names");
  }
}

#include "numerics.inc"

// What the config says of the numbers in a graph, or leaves to its family: `wanted` of vitrail/engines/facts.py.
std::string gelu_of(const Manifest& manifest) {
  const Value* gelu = json::find(manifest.config, "gelu");
  return gelu != nullptr && gelu->text() != nullptr ? *gelu->text() : kCctGelu;
}

double layer_eps(const Manifest& manifest) {
  double eps = kCctEps;
  if (const Value* value = json::find(manifest.config, "eps")) value->is_number(eps);
  return in_float32(static_cast<float>(eps));
}

std::set<double> group_eps(const Manifest& manifest) {
  const Value *stem = json::find(manifest.config, "stem"), *numerics = json::find(manifest.config, "stem_numerics");
  if (stem == nullptr || stem->text() == nullptr || *stem->text() != "resnet" || numerics == nullptr || numerics->text() == nullptr) return {};
  for (const auto& [name, eps] : kGroupEps) {
    if (name == *numerics->text()) return {in_float32(static_cast<float>(eps))};
  }
  return {};
}

}  // namespace

double in_float32(float number) {
  char digits[64];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, number);
  double value = 0;
  std::from_chars(digits, end, value);
  return value;
}

Value listed(const std::set<double>& numbers) {
  json::List list;
  for (const double number : numbers) list.push_back({number});
  return {list};
}

Value listed(const std::set<std::string>& words) {
  json::List list;
  for (const auto& word : words) list.push_back({word});
  return {list};
}

std::set<std::string> written_out(const std::set<std::string, std::less<>>& kinds, const std::vector<double>& numbers) {
  std::set<std::string> forms;
  const auto met = [&](double constant) {
    return std::any_of(numbers.begin(), numbers.end(), [&](double number) {
      return std::abs(number - constant) <= 1e-3 * std::max(std::abs(number), std::abs(constant));
    });
  };
  if (kinds.count("Erf") != 0) forms.insert("erf");
  if (kinds.count("Tanh") != 0 && met(0.044715)) forms.insert("tanh");
  if (kinds.count("Sigmoid") != 0 && met(1.702)) forms.insert("quick");
  return forms;
}

std::string classes_line(const Manifest& manifest) {
  std::string line;
  for (const auto& name : manifest.classes) line += (line.empty() ? "[" : ", ") + json::quoted(name);
  return line + "]";
}

void check_facts(const Object& found, const Manifest& manifest, const EngineEntry& entry) {
  for (const auto& [name, value] : found) {
    const Value* said = json::find(entry.facts, name);
    if (said == nullptr || shown(*said) != shown(value)) {
      throw other_graph(entry, name + ": manifest " + (said == nullptr ? "nothing" : shown(*said)) + ", graph " + shown(value));
    }
  }
  const std::string wanted = shown({json::List{{gelu_of(manifest)}}});
  if (shown(*json::find(found, "gelu")) != wanted) throw other_graph(entry, "gelu: config " + wanted);
  const std::set<double> layers = {layer_eps(manifest)}, groups = group_eps(manifest);
  std::set<double> norms = layers;
  norms.insert(groups.begin(), groups.end());
  const auto same = [&](const char* name, const std::set<double>& numbers) {
    const Value* all = json::find(found, name);
    if (shown(all == nullptr ? listed(std::set<double>{}) : *all) != shown(listed(numbers))) {
      throw other_graph(entry, std::string(name) + ": config " + shown(listed(numbers)));
    }
  };
  if (json::find(found, "norm_eps") != nullptr) return same("norm_eps", norms);  // of norms of every kind
  same("layernorm_eps", layers);
  same("groupnorm_eps", groups);
}

void check_classes(bool same, const EngineEntry& entry) {
  if (!same) throw other_graph(entry, "its classes are other ones, or in another order");
}

void check_graph(std::string_view data, const Manifest& manifest, const EngineEntry& entry) {
  const Graph graph = onnx::read(data);
  check_ends(graph, manifest, entry);
  onnx::check_sizes(graph);
  check_facts(facts_of(graph), manifest, entry);
  const auto classes = graph.metadata.find("vitrail.classes");
  check_classes(classes != graph.metadata.end() && classes->second == classes_line(manifest), entry);
}

}  // namespace vitrail
