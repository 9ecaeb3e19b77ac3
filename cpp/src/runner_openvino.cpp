// OpenVINO on the processor. Left alone it computes in bfloat16 where the CPU has that, so the precision is always said.
// No cache folder: its entries do not tell precisions apart.

#include <sched.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <openvino/openvino.hpp>
#include <thread>

#include "graph.hpp"
#include "ir.hpp"
#include "runner.hpp"

namespace vitrail {

namespace {

#include "limits.inc"

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

std::string shortened(const std::exception& error) { return std::string(error.what()).substr(0, 200); }

Error cannot_open(const ov::Exception& error) {
  return Error("V505", std::string("OpenVINO ") + ov::get_openvino_version().buildNumber + " cannot open the graph",
               {shortened(error)}, "export the model again, or choose another engine");
}

// A compiled model, and requests to it that nobody uses at the moment.
class Compiled {
 public:
  explicit Compiled(ov::CompiledModel model) : model_(std::move(model)) {}

  ov::InferRequest take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        ov::InferRequest request = std::move(idle_.back());
        idle_.pop_back();
        return request;
      }
    }
    return model_.create_infer_request();
  }

  void give(ov::InferRequest request) noexcept {
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      idle_.push_back(std::move(request));
    } catch (const std::exception&) {  // no memory to keep it: the next call makes a new one
      return;
    }
  }

 private:
  ov::CompiledModel model_;
  std::mutex mutex_;
  std::vector<ov::InferRequest> idle_;
};

// A request of one's own, given back at the end; one that still runs is stopped before what it reads goes, and not kept.
struct Lent {
  explicit Lent(Compiled& from) : owner(from), request(from.take()) {}
  ~Lent() {
    if (!running) {
      owner.give(std::move(request));
      return;
    }
    try {
      request.cancel();
      request.wait();
    } catch (const std::exception&) {  // that it was stopped, or why
      return;
    }
  }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;

  void start() {
    running = true;
    request.start_async();
  }
  void wait() {
    request.wait();
    running = false;
  }

  Compiled& owner;
  ov::InferRequest request;
  bool running = false;
};

// A graph compiled for one size of batch, which answers faster as its shapes are known, and once another size comes beside
// it for any: as in vitrail/engines/openvino.py. Which of the two answers is a matter of the size alone.
class Sized {
 public:
  static constexpr std::int64_t kAny = 0;
  using Compile = std::function<ov::CompiledModel(std::int64_t size)>;

  Sized(Compile compile, std::int64_t size) : compile_(std::move(compile)), size_(size) {}

  Compiled& of(std::int64_t size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool own = size_ != kAny && size == size_;
    std::unique_ptr<Compiled>& wanted = own ? own_ : any_;
    if (wanted == nullptr) wanted = std::make_unique<Compiled>(compile_(own ? size_ : kAny));
    return *wanted;
  }

 private:
  Compile compile_;
  std::int64_t size_;
  std::unique_ptr<Compiled> own_, any_;
  std::mutex mutex_;
};

// Cores that this process may use, as vitrail/machine.py counts them.
int cores() {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? std::max(1, CPU_COUNT(&allowed)) : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// A batch with a picture for every core is cut into a part for each, as cores that compute a layer together wait for one
// another: as in vitrail/engines/openvino.py.
class OpenVino final : public Runner {
 public:
  OpenVino(const Graph& graph, std::shared_ptr<ov::Model> model, const RunnerOptions& options)
      : input_(graph.entry.input),
        output_(graph.entry.output),
        classes_(graph.manifest.classes.size()),
        pixels_(graph.entry.takes == "pixels"),
        model_(std::move(model)),
        type_(type_of(computed_in("openvino", graph.entry, options))) {
    const Policy& policy = graph.manifest.policy;
    const auto channels = static_cast<std::size_t>(policy.channels());
    const auto height = static_cast<std::size_t>(policy.height), width = static_cast<std::size_t>(policy.width);
    one_ = pixels_ ? ov::Shape{1, height, width, channels} : ov::Shape{1, channels, height, width};
    const bool free = graph.entry.batch == 0;
    if (free) parts_ = options.threads > 0 ? options.threads : cores();
    ov::AnyMap settings = {ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
    if (options.threads > 0) settings.insert(ov::inference_num_threads(options.threads));
    const std::int64_t batch = options.batch;
    const bool cut = parts_ > 1 && batch >= parts_, known = free && batch <= kMostSized;
    const std::int64_t own = cut ? 1 : known ? batch : Sized::kAny, each = known && cut && batch % parts_ == 0 ? batch / parts_ : Sized::kAny;
    together_ = sized(settings, own);
    apart_ = sized({ov::num_streams(parts_), ov::inference_num_threads(parts_)}, each);
    cut ? apart_->of(each) : together_->of(own);  // what cannot be compiled is known at once
  }

  void logits(const void* batch, std::int64_t count, float* out) override {
    const bool cut = parts_ > 1 && count >= parts_;
    const std::int64_t parts = cut ? parts_ : 1;
    Compiled& with = cut ? apart_->of(count % parts == 0 ? count / parts : Sized::kAny) : together_->of(count);
    const std::size_t each = ov::shape_size(one_) * (pixels_ ? 1 : sizeof(float));
    try {
      std::vector<std::unique_ptr<Lent>> lent;
      const auto* from = static_cast<const std::uint8_t*>(batch);
      for (std::int64_t part = 0; part < parts; ++part) {
        ov::Shape shape = one_;
        shape[0] = static_cast<std::size_t>(count / parts + (part < count % parts ? 1 : 0));
        lent.push_back(std::make_unique<Lent>(with));
        // The engine only reads what it is lent; the interface has no word for that.
        lent.back()->request.set_tensor(input_, ov::Tensor(pixels_ ? ov::element::u8 : ov::element::f32, shape, const_cast<std::uint8_t*>(from)));
        from += shape[0] * each;
        lent.back()->start();
      }
      for (const auto& one : lent) one->wait();
      std::size_t done = 0;
      const std::size_t all = static_cast<std::size_t>(count) * classes_;
      for (const auto& one : lent) {
        const ov::Tensor found = one->request.get_tensor(output_);
        if (found.get_element_type() != ov::element::f32 || found.get_size() > all - done) throw other_logits();
        std::copy_n(found.data<const float>(), found.get_size(), out + done);
        done += found.get_size();
      }
      if (done != all) throw other_logits();
    } catch (const ov::Exception& error) {
      throw cannot_answer("OpenVINO", count, error.what());
    }
  }

 private:
  static Error other_logits() {
    return Error("V505", "the graph gives another number or kind of logits than the manifest says", {}, "export the model again");
  }

  std::unique_ptr<Sized> sized(ov::AnyMap settings, std::int64_t size) const {
    settings.insert(ov::hint::inference_precision(type_));
    return std::make_unique<Sized>([this, settings](std::int64_t count) { return compiled(settings, count); }, size);
  }

  ov::CompiledModel compiled(const ov::AnyMap& settings, std::int64_t size) const {
    try {
      std::shared_ptr<ov::Model> model = model_;
      if (size != Sized::kAny) {
        ov::Shape shape = one_;
        shape[0] = static_cast<std::size_t>(size);
        model = model_->clone();
        model->reshape(ov::PartialShape(shape));
      }
      ov::CompiledModel made = core().compile_model(model, "CPU", settings);
      const ov::element::Type taken = made.get_property(ov::hint::inference_precision);
      if (taken == type_) return made;
      throw Error("V007", "OpenVINO computes in " + taken.to_string() + " on this processor, " + type_.to_string() + " was asked for", {},
                  "take another precision");
    } catch (const ov::Exception& error) {
      throw cannot_open(error);
    }
  }

  std::string input_, output_;
  std::size_t classes_;
  bool pixels_;
  std::shared_ptr<ov::Model> model_;
  ov::element::Type type_;
  int parts_ = 1;
  ov::Shape one_;
  std::unique_ptr<Sized> together_, apart_;
};

}  // namespace

std::unique_ptr<Runner> open_openvino(Graph graph, const RunnerOptions& options) {
  const bool ir = graph.entry.format == "openvino";
  // OpenVINO would take a file of any of its formats, among them those that name further files.
  if (ir && graph.files[0].rfind("<?xml", 0) != 0) throw onnx::refused("it is no IR");
  if (!ir) check_graph(graph.files[0], graph.manifest, graph.entry);
  std::shared_ptr<ov::Model> model;
  try {
    ov::Tensor weights;
    if (ir) {
      weights = ov::Tensor(ov::element::u8, {graph.files[1].size()});
      std::copy(graph.files[1].begin(), graph.files[1].end(), weights.data<char>());
    }
    model = core().read_model(graph.files[0], weights);
    if (ir) check_ir(model, graph);
  } catch (const ov::Exception& error) {
    throw cannot_open(error);
  }
  return std::make_unique<OpenVino>(graph, std::move(model), options);
}

}  // namespace vitrail
