#include "runner.hpp"

namespace vitrail {

const std::vector<RunnerRow>& runners() {
  static const std::vector<RunnerRow> rows = {
#ifdef VITRAIL_OPENVINO
      {"openvino", {"onnx"}, open_openvino},
#endif
  };
  return rows;
}

}  // namespace vitrail
