// ONNX Runtime on the processor, through its C interface. Its wheel brings the library and no header, so the few entries
// that are needed are declared here: the interface is one table of functions that only grows at its end, and these are
// of its first version.

#include <dlfcn.h>

#include "graph.hpp"
#include "runner.hpp"

namespace vitrail {

namespace {

using Status = void*;  // nullptr: all is well
using Table = const void* const*;

struct Base {
  Table (*get)(std::uint32_t version);
  const char* (*version)();
};

// Places in the table, and what stands there.
enum Entry : std::size_t {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSessionFromArray = 8,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetSessionLogSeverityLevel = 22,
  kSetIntraOpNumThreads = 24,
  kSetInterOpNumThreads = 25,
  kCreateTensorWithData = 49,
  kCreateCpuMemoryInfo = 69,
  kReleaseEnv = 92,
  kReleaseStatus = 93,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseSessionOptions = 100,
};
constexpr int kFatal = 4, kArena = 1, kDefaultMemory = 0, kFloat = 1, kUint8 = 2;

class Library {
 public:
  Library() {
    void* handle = nullptr;
    for (const char* name : {VITRAIL_ONNXRUNTIME, "libonnxruntime.so.1"}) {
      if (handle == nullptr && name[0] != '\0') handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    void* symbol = handle == nullptr ? nullptr : dlsym(handle, "OrtGetApiBase");
    if (symbol == nullptr) throw Error("V003", "this needs the library of onnxruntime, which is not found", {}, "pip install onnxruntime, then build again");
    const Base* base = reinterpret_cast<const Base* (*)()>(symbol)();
    table_ = base->get(1);
    version_ = base->version();
    if (table_ == nullptr) throw Error("V003", "onnxruntime " + version_ + " no longer has the first version of its interface", {}, "take an older onnxruntime");
  }

  const std::string& version() const { return version_; }

  template <class Result, class... Given>
  Result call(Entry entry, Given... given) const {
    return reinterpret_cast<Result (*)(Given...)>(const_cast<void*>(table_[entry]))(given...);
  }

  template <class... Given>
  std::string refusal(Entry entry, Given... given) const {  // empty where it is none
    const Status status = call<Status>(entry, given...);
    if (status == nullptr) return "";
    const std::string why = call<const char*>(kGetErrorMessage, static_cast<const void*>(status));
    call<void>(kReleaseStatus, status);
    return why.empty() ? "it does not say why" : why;
  }

  template <class... Given>
  void need(Entry entry, Given... given) const {
    const std::string why = refusal(entry, given...);
    if (why.empty()) return;
    throw Error("V505", "ONNX Runtime " + version_ + " fails on the graph", {why.substr(0, 200)}, "export the model again, or choose another engine");
  }

 private:
  Table table_ = nullptr;
  std::string version_;
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

class Held {  // something of the library's, given back at the end
 public:
  explicit Held(Entry release) : release_(release) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    if (held_ != nullptr) library().call<void>(release_, held_);
  }
  void** out() { return &held_; }
  void* get() const { return held_; }

 private:
  Entry release_;
  void* held_ = nullptr;
};

class OnnxRuntime final : public Runner {
 public:
  OnnxRuntime(const std::string& graph, const Manifest& manifest, const EngineEntry& entry, const RunnerOptions& options)
      : input_(entry.input), output_(entry.output), classes_(static_cast<std::int64_t>(manifest.classes.size())), pixels_(entry.takes == "pixels") {
    const std::int64_t channels = manifest.policy.channels(), height = manifest.policy.height, width = manifest.policy.width;
    one_ = pixels_ ? std::vector<std::int64_t>{1, height, width, channels} : std::vector<std::int64_t>{1, channels, height, width};
    const Library& ort = library();
    Held settings(kReleaseSessionOptions);
    ort.need(kCreateEnv, kFatal, "vitrail", environment_.out());
    ort.need(kCreateSessionOptions, settings.out());
    ort.need(kSetIntraOpNumThreads, settings.get(), options.threads);
    ort.need(kSetInterOpNumThreads, settings.get(), 1);
    ort.need(kSetSessionLogSeverityLevel, settings.get(), kFatal);
    ort.need(kCreateCpuMemoryInfo, kArena, kDefaultMemory, memory_.out());
    ort.need(kCreateSessionFromArray, static_cast<const void*>(environment_.get()), static_cast<const void*>(graph.data()), graph.size(),
             static_cast<const void*>(settings.get()), session_.out());
  }

  void logits(const void* batch, std::int64_t count, float* out) override {
    const Library& ort = library();
    std::vector<std::int64_t> shape = one_;
    shape[0] = count;
    std::size_t bytes = pixels_ ? 1 : sizeof(float);
    for (const std::int64_t side : shape) bytes *= static_cast<std::size_t>(side);
    const std::int64_t rows[] = {count, classes_};
    Held images(kReleaseValue), answers(kReleaseValue);
    // The engine only reads its input; the interface has no word for that.
    ort.need(kCreateTensorWithData, static_cast<const void*>(memory_.get()), const_cast<void*>(batch), bytes, shape.data(), shape.size(),
             pixels_ ? kUint8 : kFloat, images.out());
    ort.need(kCreateTensorWithData, static_cast<const void*>(memory_.get()), static_cast<void*>(out),
             static_cast<std::size_t>(count * classes_) * sizeof(float), static_cast<const std::int64_t*>(rows), std::size_t{2}, kFloat, answers.out());
    const char* input = input_.c_str();
    const char* output = output_.c_str();
    const void* given = images.get();
    const std::string why = ort.refusal(kRun, session_.get(), static_cast<const void*>(nullptr), &input, &given, std::size_t{1}, &output, std::size_t{1}, answers.out());
    if (!why.empty()) throw cannot_answer("ONNX Runtime", count, why);
  }

 private:
  std::string input_, output_;
  std::int64_t classes_;
  bool pixels_;
  std::vector<std::int64_t> one_;
  Held environment_{kReleaseEnv}, memory_{kReleaseMemoryInfo}, session_{kReleaseSession};
};

}  // namespace

std::unique_ptr<Runner> open_onnxruntime(Graph graph, const RunnerOptions& options) {
  check_graph(graph.files[0], graph.manifest, graph.entry);
  return std::make_unique<OnnxRuntime>(graph.files[0], graph.manifest, graph.entry, options);
}

}  // namespace vitrail
