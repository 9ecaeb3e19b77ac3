// What runs a graph. One engine, one file: `runner_NAME.cpp` gives an opener, and a row in runners.cpp names it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace vitrail {

class Runner {
 public:
  virtual ~Runner() = default;

  // Logits (count, classes) of a batch: float32 (count, C, H, W), or uint8 (count, H, W, C) where the graph takes
  // pixels. Several threads may call it at once. Error V505 where the engine fails.
  virtual void logits(const void* batch, std::int64_t count, float* out) = 0;
};

struct RunnerOptions {
  int threads = 0;                // 0: every core
  std::string precision = "f32";  // what the engine computes in: f32, bf16, f16
};

struct RunnerRow {
  const char* name;
  std::vector<std::string> formats;  // of the bundle's graphs that it runs
  std::unique_ptr<Runner> (*open)(std::string graph, const Manifest& manifest, const EngineEntry& entry, const RunnerOptions& options);
};

const std::vector<RunnerRow>& runners();  // those that were built in, in the order in which `auto` takes them

std::unique_ptr<Runner> open_openvino(std::string graph, const Manifest& manifest, const EngineEntry& entry, const RunnerOptions& options);

std::unique_ptr<Runner> open_onnxruntime(std::string graph, const Manifest& manifest, const EngineEntry& entry, const RunnerOptions& options);

}  // namespace vitrail
