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

std::vector<std::string> beside(const EngineEntry& entry) {
  if (entry.format != "openvino") return {};
  return {entry.file.substr(0, entry.file.rfind('/') + 1) + "model.bin"};
}

}  // namespace vitrail
