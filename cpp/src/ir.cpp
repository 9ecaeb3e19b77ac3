#include "ir.hpp"

#include <map>
#include <openvino/op/constant.hpp>
#include <openvino/op/gelu.hpp>
#include <openvino/op/mvn.hpp>
#include <openvino/op/parameter.hpp>

#include "facts.hpp"
#include "graph.hpp"

namespace vitrail {

namespace {

#include "openvino_kinds.inc"

#include "limits.inc"

bool is_one_of(std::string_view kind, std::initializer_list<std::string_view> kinds) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

bool is_product(std::string_view kind) { return is_one_of(kind, {"Convolution", "GroupConvolution", "MatMul"}); }

void check_ends(const ov::Model& model, const Graph& graph) {
  const bool pixels = graph.entry.takes == "pixels";
  const std::size_t given = graph.entry.top == 0 ? 1 : 3;
  const bool fits = model.inputs().size() == 1 && model.outputs().size() == given && model.input(0).get_any_name() == graph.entry.input &&
                    model.output(0).get_any_name() == graph.entry.output && model.output(0).get_element_type() == ov::element::f32 &&
                    model.input(0).get_element_type() == (pixels ? ov::element::u8 : ov::element::f32);
  if (!fits) throw onnx::refused("its ends are not those that the manifest names");
  if (given == 3 && (model.output(1).get_any_name() != kTop[0] || model.output(1).get_element_type() != ov::element::f32 ||
                     model.output(2).get_any_name() != kTop[1] || model.output(2).get_element_type() != ov::element::i64)) {
    throw onnx::refused("its best classes are not those that the manifest names");
  }
  const Policy& policy = graph.manifest.policy;
  const ov::Dimension batch = graph.entry.batch == 0 ? ov::Dimension::dynamic() : ov::Dimension(graph.entry.batch);
  const ov::PartialShape wanted = pixels ? ov::PartialShape{batch, policy.height, policy.width, policy.channels()}
                                         : ov::PartialShape{batch, policy.channels(), policy.height, policy.width};
  if (model.input(0).get_partial_shape() != wanted) throw onnx::refused("its input has another shape than the manifest says");
}

// As OpenVINO infers the shapes for a batch; on a copy, as shapes of a fixed batch fold into constants what is free.
void check_sizes(const ov::Model& model, const Graph& graph) {
  const std::shared_ptr<ov::Model> copy = model.clone();
  ov::PartialShape shape = copy->input(0).get_partial_shape();
  if (graph.entry.batch == 0) shape[0] = kBatch;
  copy->reshape(shape);
  double total = 0;
  for (const auto& op : copy->get_ops()) {
    for (const auto& out : op->outputs()) {
      double size = 1;
      for (const std::size_t side : out.get_shape()) size *= static_cast<double>(side);
      total += size;
      if (size > static_cast<double>(kLargest) || total > static_cast<double>(kTotal)) throw onnx::refused("a value in it exceeds the memory allowed");
    }
  }
  const ov::Shape answer = copy->output(0).get_shape();
  if (answer.size() != 2 || answer[1] != graph.manifest.classes.size()) throw onnx::refused("it gives another number of logits than there are classes");
  for (std::size_t i = 1; i < copy->outputs().size(); ++i) {
    const ov::Shape best = copy->output(i).get_shape();
    if (best.size() != 2 || best[1] != static_cast<std::size_t>(graph.entry.top)) throw onnx::refused("it gives another number of best classes");
  }
}

// Whether a product's weights are stored in 8 bits: behind a scale, a type, perhaps another shape.
bool in_int8(const ov::Node& product) {
  std::shared_ptr<ov::Node> op = product.get_input_node_shared_ptr(1);
  while (is_one_of(op->get_type_name(), {"Multiply", "Subtract", "Convert", "Reshape", "Transpose"})) op = op->get_input_node_shared_ptr(0);
  return is_one_of(op->get_type_name(), {"Constant"}) && (op->get_element_type() == ov::element::i8 || op->get_element_type() == ov::element::u8);
}

json::Object facts_of(const ov::Model& model) {
  std::map<std::string, std::int64_t> counts;
  std::set<std::string, std::less<>> kinds;
  std::set<std::string> forms;
  std::set<double> epsilons;
  std::vector<double> numbers;
  std::int64_t short_ones = 0;
  for (const auto& op : model.get_ops()) {
    const std::string kind = op->get_type_name();
    ++counts[kind];
    kinds.insert(kind);
    if (const auto gelu = ov::as_type_ptr<ov::op::v7::Gelu>(op)) {
      forms.insert(gelu->get_approximation_mode() == ov::op::GeluApproximationMode::TANH ? "tanh" : "erf");
    }
    if (const auto norm = ov::as_type_ptr<ov::op::v6::MVN>(op)) epsilons.insert(in_float32(norm->get_eps()));
    if (const auto constant = ov::as_type_ptr<ov::op::v0::Constant>(op); constant != nullptr && ov::shape_size(constant->get_shape()) == 1) {
      numbers.push_back(constant->cast_vector<double>()[0]);
    }
    if (is_product(kind) && in_int8(*op)) ++short_ones;
  }
  forms.merge(written_out(kinds, numbers));
  json::Object operators, facts;
  for (const auto& [kind, count] : counts) operators.emplace_back(kind, json::Value{count});
  facts.emplace_back("gelu", listed(forms));
  if (short_ones > 0) facts.emplace_back("int8", json::Value{short_ones});
  facts.emplace_back("norm_eps", listed(epsilons));
  facts.emplace_back("operators", json::Value{operators});
  return facts;
}

}  // namespace

void check_ir(const std::shared_ptr<ov::Model>& model, const Graph& graph) {
  for (const auto& op : model->get_ops()) {
    const std::string_view kind = op->get_type_name();
    if (std::find(std::begin(kKinds), std::end(kKinds), kind) == std::end(kKinds)) {
      throw onnx::refused("the operator `" + std::string(kind.substr(0, 40)) + "` is not on the list of allowed ones");
    }
  }
  check_ends(*model, graph);
  check_sizes(*model, graph);
  constexpr char kClasses[] = "vitrail.classes";
  if (!model->has_rt_info("framework", kClasses)) throw onnx::refused("it holds no vitrail.classes");
  check_facts(facts_of(*model), graph.manifest, graph.entry);
  check_classes(model->get_rt_info<std::string>("framework", kClasses) == classes_line(graph.manifest), graph.entry);
}

}  // namespace vitrail
