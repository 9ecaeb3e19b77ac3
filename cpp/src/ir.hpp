// A graph in OpenVINO's own form (IR) against its manifest, after it is read and before it is compiled.
#pragma once

#include <memory>
#include <openvino/core/model.hpp>

#include "runner.hpp"

namespace vitrail {

// As `_check` and `_facts` of vitrail/engines/openvino.py: Error V505 for other ends, an operator that is on no list or
// values beyond the limits, V502 for a graph that is not the one that the manifest describes. What OpenVINO itself throws
// of shapes that it cannot tell passes through.
void check_ir(const std::shared_ptr<ov::Model>& model, const Graph& graph);

}  // namespace vitrail
