// Programs of torch: TorchScript and AOTInductor, on LibTorch. They are code: the caller has made sure that they may run.

#include <dlfcn.h>

#include <algorithm>

#include "facts.hpp"
#include "graph.hpp"
#include "torch_library.hpp"

namespace vitrail {

namespace {

#include "torchscript_operations.inc"

OpenProgram library() {
  static void* const handle = dlopen(VITRAIL_TORCH, RTLD_NOW | RTLD_LOCAL);
  void* symbol = handle == nullptr ? nullptr : dlsym(handle, kOpenProgram);
  if (symbol == nullptr) {
    const char* why = dlerror();
    throw Error("V003", "this needs libvitrail_torch.so, which is not found", {why == nullptr ? "" : why},
                "pip install torch, then build again; or take onnx or openvino");
  }
  return reinterpret_cast<OpenProgram>(symbol);
}

void check(const Seen& seen, const Graph& graph) {
  for (const auto& kind : seen.kinds) {
    if (std::find(std::begin(kOperations), std::end(kOperations), kind) == std::end(kOperations)) {
      throw onnx::refused("the operation `" + kind.substr(0, 40) + "` is not on the list of allowed ones");
    }
  }
  json::Object facts;
  facts.emplace_back("gelu", listed(seen.gelu));
  if (!seen.groupnorm_eps.empty()) facts.emplace_back("groupnorm_eps", listed(seen.groupnorm_eps));
  facts.emplace_back("layernorm_eps", listed(seen.layernorm_eps));
  check_facts(facts, graph.manifest, graph.entry);
  const std::string batch = graph.entry.batch == 0 ? "null" : std::to_string(graph.entry.batch);
  const std::string wanted = "{\"batch\": " + batch + ", \"classes\": " + classes_line(graph.manifest) + ", ";
  check_classes(seen.about.compare(0, wanted.size(), wanted) == 0, graph.entry);
}

}  // namespace

std::unique_ptr<Runner> open_torch(Graph graph, const RunnerOptions& options) {
  if (!options.precision.empty()) throw Error("V007", "a program of torch computes in what it says, not in `" + options.precision + "`", {}, "leave the precision out");
  const Policy& policy = graph.manifest.policy;
  const bool pixels = graph.entry.takes == "pixels", native = graph.entry.format == "aoti";
  std::vector<std::int64_t> one = {1, policy.channels(), policy.height, policy.width};
  if (pixels) one = {1, policy.height, policy.width, policy.channels()};
  const OpenProgram open = library();
  Seen seen;
  std::unique_ptr<Runner> runner;
  try {
    runner.reset(open({graph.files[0], native, options.threads, one, pixels, graph.manifest.classes.size()}, seen));
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    const std::string why = error.what();
    throw Error("V505", "torch cannot open the program", {why.substr(0, std::min<std::size_t>(why.find('\n'), 200))}, "export the model again");
  }
  if (!native) check(seen, graph);
  return runner;
}

}  // namespace vitrail
