#include "runner.hpp"

namespace vitrail {

const std::vector<RunnerRow>& runners() {
  static const std::vector<RunnerRow> rows = {
      {"openvino", {"onnx"}, open_openvino},
      {"onnx", {"onnx"}, open_onnxruntime},
  };
  return rows;
}

}  // namespace vitrail
