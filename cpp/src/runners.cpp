#include "runner.hpp"

namespace vitrail {

const std::vector<RunnerRow>& runners() {
  static const std::vector<RunnerRow> rows = {
      // name          formats                program native
      {"openvino",    {"openvino", "onnx"},  false, false, open_openvino},
      {"onnx",        {"onnx"},              false, false, open_onnxruntime},
      {"torchscript", {"torchscript"},       true,  false, open_torch},
      {"aoti",        {"aoti"},              true,  true,  open_torch},
  };
  return rows;
}

std::string computed_in(const std::string& engine, const EngineEntry& entry, const RunnerOptions& options) {
  std::string own = entry.precision == "fp32" ? "f32" : entry.precision == "fp16" ? "f16" : entry.precision;
  if (engine == "openvino") {
    if (!options.precision.empty()) return options.precision;
    return entry.format == "openvino" && own != "int8" ? own : "f32";
  }
  if (options.precision.empty() || options.precision == own) return own;
  throw Error("V007", engine + " computes in what the graph is of, " + own + ", not in `" + options.precision + "`", {}, "leave the precision out, or take openvino");
}

std::vector<std::string> beside(const EngineEntry& entry) {
  if (entry.format != "openvino") return {};
  return {entry.file.substr(0, entry.file.rfind('/') + 1) + "model.bin"};
}

}  // namespace vitrail
