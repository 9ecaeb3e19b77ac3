// OpenVINO on the processor. Left alone it computes in bfloat16 where the CPU has that, so the precision is always said.
// No cache folder: its entries do not tell precisions apart.

#include <algorithm>
#include <mutex>
#include <openvino/openvino.hpp>

#include "runner.hpp"

namespace vitrail {

namespace {

ov::element::Type type_of(const std::string& precision) {
  if (precision == "f32") return ov::element::f32;
  if (precision == "bf16") return ov::element::bf16;
  if (precision == "f16") return ov::element::f16;
  throw Error("V007", "OpenVINO computes in no precision called `" + precision + "`", {}, "known: f32, bf16, f16");
}

// One for the process, which never goes: each plugin gives its thread a stack for signals, and puts back the one from
// before when it goes. Of two that go as they came, the second puts back what is freed, and the next signal kills.
ov::Core& core() {
  static ov::Core& one = *new ov::Core;
  return one;
}

class OpenVino final : public Runner {
 public:
  OpenVino(std::string graph, const Manifest& manifest, const EngineEntry& entry, const RunnerOptions& options)
      : input_(entry.input), output_(entry.output), classes_(manifest.classes.size()), pixels_(entry.takes == "pixels") {
    const auto channels = static_cast<std::size_t>(manifest.policy.channels());
    const auto height = static_cast<std::size_t>(manifest.policy.height), width = static_cast<std::size_t>(manifest.policy.width);
    one_ = pixels_ ? ov::Shape{1, height, width, channels} : ov::Shape{1, channels, height, width};
    ov::AnyMap settings = {ov::hint::inference_precision(type_of(options.precision)),
                           ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
    if (options.threads > 0) settings.insert(ov::inference_num_threads(options.threads));
    try {
      compiled_ = core().compile_model(core().read_model(graph, ov::Tensor()), "CPU", settings);
    } catch (const std::exception& error) {
      throw Error("V505", std::string("OpenVINO ") + ov::get_openvino_version().buildNumber + " cannot open the graph",
                  {std::string(error.what()).substr(0, 200)}, "export the model again, or choose another engine");
    }
  }

  void logits(const void* batch, std::int64_t count, float* out) override {
    ov::Shape shape = one_;
    shape[0] = static_cast<std::size_t>(count);
    Lent lent(*this);
    try {
      // The engine only reads what it is lent; the interface has no word for that.
      lent.request.set_tensor(input_, ov::Tensor(pixels_ ? ov::element::u8 : ov::element::f32, shape, const_cast<void*>(batch)));
      lent.request.infer();
      const ov::Tensor found = lent.request.get_tensor(output_);
      if (found.get_size() != shape[0] * classes_ || found.get_element_type() != ov::element::f32) {
        throw Error("V505", "the graph gives another number or kind of logits than the manifest says", {}, "export the model again");
      }
      std::copy_n(found.data<const float>(), found.get_size(), out);
    } catch (const ov::Exception& error) {
      throw Error("V505", "OpenVINO fails on the graph", {std::string(error.what()).substr(0, 200)}, "export the model again, or choose another engine");
    }
  }

 private:
  struct Lent {  // a request of one's own, given back at the end
    explicit Lent(OpenVino& from) : owner(from), request(from.take()) {}
    ~Lent() { owner.give(std::move(request)); }
    Lent(const Lent&) = delete;
    Lent& operator=(const Lent&) = delete;
    OpenVino& owner;
    ov::InferRequest request;
  };

  ov::InferRequest take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        ov::InferRequest request = std::move(idle_.back());
        idle_.pop_back();
        return request;
      }
    }
    return compiled_.create_infer_request();
  }

  void give(ov::InferRequest request) noexcept {
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      idle_.push_back(std::move(request));
    } catch (const std::exception&) {  // no memory to keep it: the next call makes a new one
      return;
    }
  }

  std::string input_, output_;
  std::size_t classes_;
  bool pixels_;
  ov::Shape one_;
  ov::CompiledModel compiled_;
  std::mutex mutex_;
  std::vector<ov::InferRequest> idle_;
};

}  // namespace

std::unique_ptr<Runner> open_openvino(std::string graph, const Manifest& manifest, const EngineEntry& entry, const RunnerOptions& options) {
  return std::make_unique<OpenVino>(std::move(graph), manifest, entry, options);
}

}  // namespace vitrail
