// What a graph of any kind says itself of the things that exporters get wrong, against its manifest and the config.
#pragma once

#include <set>
#include <string>

#include "manifest.hpp"

namespace vitrail {

// A float32 in the shortest digits that mean it, as a double: what the manifest holds.
double in_float32(float number);

// Epsilons and names as lists of a manifest: sorted.
json::Value listed(const std::set<double>& numbers);
json::Value listed(const std::set<std::string>& words);

// Forms of GELU that are written out: an operator together with the constant it comes with. has: whether there is an
// operator of that ONNX or OpenVINO kind.
std::set<std::string> written_out(const std::set<std::string, std::less<>>& kinds, const std::vector<double>& numbers);

// The classes of the manifest as one line of JSON, as graphs carry them.
std::string classes_line(const Manifest& manifest);

// Error V502 unless manifest and config say what the graph says: gelu, layernorm_eps or norm_eps, and whatever else is
// found.
void check_facts(const json::Object& found, const Manifest& manifest, const EngineEntry& entry);

// Error V502 for other classes, or in another order.
void check_classes(bool same, const EngineEntry& entry);

}  // namespace vitrail
