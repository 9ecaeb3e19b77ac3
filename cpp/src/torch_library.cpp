#include "torch_library.hpp"

#include <ATen/Parallel.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/script.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <sstream>

namespace vitrail {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

#include "limits.inc"

// What the value is where the program says it.
std::optional<double> number(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  if (!constant) return std::nullopt;
  if (constant->isDouble()) return constant->toDouble();
  if (constant->isInt()) return static_cast<double>(constant->toInt());
  if (constant->isTensor() && constant->toTensor().numel() == 1) return constant->toTensor().item<double>();
  return std::nullopt;
}

void look(const Block* block, Seen& seen, std::set<std::string>& quick) {
  for (const Node* node : block->nodes()) {
    const std::string kind = node->kind().toQualString();
    seen.kinds.insert(kind);
    if (kind == "aten::gelu") {
      const auto form = node->inputs().size() > 1 ? torch::jit::toIValue(node->input(1)) : std::nullopt;
      seen.gelu.insert(form && form->isString() && form->toStringRef() == "tanh" ? "tanh" : "erf");
    }
    if (kind == "aten::sigmoid") quick.insert("sigmoid");
    if (kind == "aten::mul") {
      for (const Value* input : node->inputs()) {
        if (const auto factor = number(input); factor && std::abs(*factor - 1.702) <= 1.702e-6) quick.insert("factor");
      }
    }
    if (kind == "aten::layer_norm" || kind == "aten::group_norm") {
      const auto epsilon = number(node->input(4));
      (kind == "aten::layer_norm" ? seen.layernorm_eps : seen.groupnorm_eps).insert(epsilon.value_or(0));
    }
    for (const Block* inner : node->blocks()) look(inner, seen, quick);
  }
}

class Torch : public Runner {
 public:
  explicit Torch(const Program& program) : one_(program.one), pixels_(program.pixels), classes_(static_cast<std::int64_t>(program.classes)) {
    if (program.threads > 0) at::set_num_threads(program.threads);
  }

  void logits(const void* batch, std::int64_t count, float* out) override {
    const c10::InferenceMode mode;
    const std::int64_t most = largest();
    const auto* from = static_cast<const std::uint8_t*>(batch);
    std::vector<std::int64_t> shape = one_;
    std::int64_t each = pixels_ ? 1 : sizeof(float);
    for (const std::int64_t side : one_) each *= side;
    for (std::int64_t done = 0; done < count; done += shape[0]) {
      shape[0] = std::min(most, count - done);
      // It only reads what it is lent; the interface has no word for that.
      const at::Tensor images = at::from_blob(const_cast<std::uint8_t*>(from + done * each), shape, pixels_ ? at::kByte : at::kFloat);
      answer(images, shape[0], out + done * classes_);
    }
  }

 protected:
  virtual at::Tensor call(const at::Tensor& images) = 0;
  virtual std::int64_t largest() const { return std::numeric_limits<std::int64_t>::max(); }

 private:
  void answer(const at::Tensor& images, std::int64_t count, float* out) {
    try {
      const at::Tensor found = call(images).contiguous();
      if (found.device().is_cpu() && found.scalar_type() == at::kFloat && found.dim() == 2 && found.size(0) == count && found.size(1) == classes_) {
        std::copy_n(found.data_ptr<float>(), found.numel(), out);
        return;
      }
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      throw cannot_answer("torch", count, error.what());
    }
    throw Error("V505", "the program gives another number or kind of logits than the manifest says", {}, "export the model again");
  }

  std::vector<std::int64_t> one_;
  bool pixels_;
  std::int64_t classes_;
};

class Script final : public Torch {
 public:
  Script(const Program& program, Seen& seen) : Torch(program), top_(program.top) {
    std::istringstream stream(program.data);
    torch::jit::ExtraFilesMap files = {{"vitrail.json", ""}};
    module_ = torch::jit::load(stream, at::kCPU, files);
    module_.eval();
    seen.about = files["vitrail.json"];
    const auto graph = module_.get_method("forward").graph()->copy();
    torch::jit::Inline(*graph);
    std::set<std::string> quick;
    look(graph->block(), seen, quick);
    if (quick.size() == 2) seen.gelu.insert("quick");
  }

 private:
  at::Tensor call(const at::Tensor& images) override {
    const c10::IValue found = module_.forward({images});  // the logits, beside which it may name the best classes
    if (top_ == 0) return found.toTensor();
    const auto& parts = found.toTupleRef().elements();
    for (std::size_t i = 1; i < 3; ++i) {
      if (parts.size() != 3 || parts[i].toTensor().dim() != 2 || parts[i].toTensor().size(1) != top_) throw std::invalid_argument("other best classes");
    }
    return parts[0].toTensor();
  }
  std::int64_t top_;
  torch::jit::script::Module module_;
};

class Memory {  // a file without a name
 public:
  Memory() : number_(memfd_create("model.pt2", MFD_CLOEXEC)) {
    if (number_ < 0) throw read_fault(errno, "a file in memory");
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { close(number_); }

  std::string with(const std::string& data) const {  // its path, after the bytes are in it
    for (std::size_t done = 0; done < data.size();) {
      const ssize_t count = write(number_, data.data() + done, data.size() - done);
      if (count < 0 && errno != EINTR) throw write_fault(errno, "a file in memory");
      if (count > 0) done += static_cast<std::size_t>(count);
    }
    return "/proc/self/fd/" + std::to_string(number_);
  }

 private:
  int number_;
};

class Native final : public Torch {
 public:
  explicit Native(const Program& program) : Torch(program), loader_(Memory().with(program.data)) {}

 private:
  at::Tensor call(const at::Tensor& images) override {
    std::vector<at::Tensor> given = {images};
    return loader_.run(given).at(0);
  }
  std::int64_t largest() const override { return kLargestBatch; }
  torch::inductor::AOTIModelPackageLoader loader_;
};

}  // namespace

}  // namespace vitrail

extern "C" __attribute__((visibility("default"))) vitrail::Runner* vitrail_torch_open(const vitrail::Program& program, vitrail::Seen& seen) {
  if (program.native) return new vitrail::Native(program);
  return new vitrail::Script(program, seen);
}
