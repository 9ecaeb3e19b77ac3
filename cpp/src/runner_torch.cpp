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
  static void* const handle = dlopen("libvitrail_torch.so", RTLD_NOW | RTLD_LOCAL);
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
  const auto numbers = [](const std::set<double>& raw) {
    std::set<double> found;
    for (const double number : raw) found.insert(in_float32(static_cast<float>(number)));
    return listed(found);
  };
  facts.emplace_back("gelu", listed(seen.gelu));
  if (!seen.groupnorm_eps.empty()) facts.emplace_back("groupnorm_eps", numbers(seen.groupnorm_eps));
  facts.emplace_back("layernorm_eps", numbers(seen.layernorm_eps));
  check_facts(facts, graph.manifest, graph.entry);
  const std::string key = ", \"classes\": ", wanted = classes_line(graph.manifest) + ", ";  // behind a number or null
  const std::size_t at = seen.about.find(key);
  check_classes(at != std::string::npos && seen.about.compare(at + key.size(), wanted.size(), wanted) == 0, graph.entry);
}

}  // namespace

std::unique_ptr<Runner> open_torch(Graph graph, const RunnerOptions& options) {
  const Policy& policy = graph.manifest.policy;
  const bool pixels = graph.entry.takes == "pixels", native = graph.entry.format == "aoti";
  std::vector<std::int64_t> one = {1, policy.channels(), policy.height, policy.width};
  if (pixels) one = {1, policy.height, policy.width, policy.channels()};
  const OpenProgram open = library();
  Seen seen;
  std::unique_ptr<Runner> runner;
  try {
    runner.reset(open({graph.files[0], native, options.threads, one, pixels, graph.manifest.classes.size(), graph.entry.top}, seen));
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    const std::string why = error.what();
    throw Error("V505", "torch cannot open the program", {why.substr(0, std::min<std::size_t>(why.find('\n'), 200))}, "export the model again");
  }
  if (!native) check(seen, graph);
  // One answer: it gives as many logits as there are classes.
  const std::int64_t count = std::max<std::int64_t>(graph.entry.batch, 1);
  const std::size_t bytes = static_cast<std::size_t>(count) * policy.height * policy.width * policy.channels() * (pixels ? 1 : sizeof(float));
  std::vector<float> logits(static_cast<std::size_t>(count) * graph.manifest.classes.size());
  runner->logits(std::vector<std::uint8_t>(bytes, 0).data(), count, logits.data());
  return runner;
}

}  // namespace vitrail
