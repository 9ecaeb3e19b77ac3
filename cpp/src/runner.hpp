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
  // pixels. Several threads may call it at once. Error V703 where the engine fails, V505 for other logits.
  virtual void logits(const void* batch, std::int64_t count, float* out) = 0;
};

struct RunnerOptions {
  int threads = 0;        // 0: every core
  std::string precision;  // what OpenVINO computes in: f32, bf16, f16; empty: see `computed_in`
  bool trust = false;     // programs that were not made on this machine may be run
  std::int64_t batch = 1; // pictures that come at a time as a rule: OpenVINO compiles the graph for so many
};

// A graph of a checked bundle. files: its bytes, its own file first, then those of `beside`.
struct Graph {
  std::vector<std::string> files;
  const Manifest& manifest;
  const EngineEntry& entry;
};

struct RunnerRow {
  const char* name;
  std::vector<std::string> formats;  // of the bundle's graphs that it runs, its own first
  bool program;                      // what it opens is code, not data
  bool native;                       // machine code, of one kind of processor
  // Checks the graph against its manifest, and makes it ready. Error V505 where it is refused, V502 where it is another.
  std::unique_ptr<Runner> (*open)(Graph graph, const RunnerOptions& options);
};

const std::vector<RunnerRow>& runners();  // in the order in which `auto` takes them
std::vector<std::string> beside(const EngineEntry& entry);  // files that belong to a graph's own, by their names in the bundle

// What an engine computes in, as `--precision` says it: what is asked of OpenVINO, and where nothing is what an IR is of
// (a graph in 8 bits leaves float32), float32 for ONNX; with other engines what the graph is of. Error V007 where another
// is asked for.
std::string computed_in(const std::string& engine, const EngineEntry& entry, const RunnerOptions& options);

std::unique_ptr<Runner> open_openvino(Graph graph, const RunnerOptions& options);
std::unique_ptr<Runner> open_onnxruntime(Graph graph, const RunnerOptions& options);
std::unique_ptr<Runner> open_torch(Graph graph, const RunnerOptions& options);

}  // namespace vitrail
