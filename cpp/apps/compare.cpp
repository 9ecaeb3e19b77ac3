// One input through an engine and a reference: do they give the same answers? Exit code 5 where they do not.

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "arguments.hpp"

namespace vitrail::app {

namespace {

// Numbers that every machine draws alike (splitmix64), as standard normal ones.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t mixed = state_ += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    return mixed ^ mixed >> 31;
  }
  float normal() {
    const double radius = std::sqrt(-2 * std::log(uniform())), angle = 6.283185307179586 * uniform();
    return static_cast<float>(radius * std::cos(angle));
  }

 private:
  double uniform() { return (static_cast<double>(next() >> 11) + 0.5) / 9007199254740992.0; }
  std::uint64_t state_;
};

double norm(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum);
}

void check_size(const Arguments& arguments, const Policy& policy) {
  const std::string wanted = arguments.text("--image-size", "");
  const std::string side = std::to_string(policy.height), both = side + "," + std::to_string(policy.width);
  if (wanted.empty() || wanted == both || (wanted == side && policy.height == policy.width)) return;
  throw Error("V007", "the network takes pictures of " + both + ", not of " + wanted, {}, "leave --image-size out, or export at that size");
}

// Pictures that are named, or drawn at random, for one of the two.
Batch input_of(const Model& model, const Arguments& arguments) {
  Batch batch = model.batch();
  const Policy& policy = model.manifest().policy;
  const int pictures = arguments.whole("--batch", 1, 1, 4096);
  if (arguments.given("--picture")) {
    const std::string path = arguments.text("--picture", "");
    const Picture pixels = policy.pixels(decode_file(path, policy.channels()), "`" + path + "`");
    for (int i = 0; i < pictures; ++i) batch.add(pixels);
    return batch;
  }
  Random random(static_cast<std::uint64_t>(arguments.whole("--seed", 0, 0, 1 << 30)));
  if (model.entry().takes == "pixels") {
    for (int i = 0; i < pictures; ++i) {
      Picture noise(policy.height, policy.width, policy.channels());
      for (auto& value : noise.data) value = static_cast<std::uint8_t>(random.next() >> 56);
      batch.add(noise);
    }
    return batch;
  }
  std::vector<float> images(static_cast<std::size_t>(pictures) * policy.height * policy.width * policy.channels());
  for (float& value : images) value = random.normal();
  batch.add_images(images.data(), pictures);
  return batch;
}

// An engine, and what it computes in.
std::string called(const Model& model) { return model.engine() + " " + model.precision(); }

}  // namespace

int compare(const Arguments& arguments) {
  if (arguments.words().empty() || arguments.words().size() > 2) throw usage("compare takes a BUNDLE, and a REFERENCE bundle where it is another one");
  const double atol = arguments.real("--atol", 1e-3), rtol = arguments.real("--rtol", 1e-5);
  const int threads = arguments.whole("--threads", 0, 0, 1024);
  const std::string engine = arguments.text("--engine", "auto"), exact = arguments.text("--reference-precision", "f32");
  const bool trust = arguments.has("--trust"), other_bundle = arguments.words().size() == 2;
  const Model model(arguments.words()[0], engine, {threads, arguments.text("--precision", ""), trust});
  // Where nothing else tells the two apart, another engine does.
  const bool by_precision = !other_bundle && model.engine() == "openvino" && model.precision() != exact;
  const std::string other = model.engine() == "onnx" ? "openvino" : "onnx";
  const std::string other_engine = arguments.text("--reference-engine", other_bundle || by_precision ? engine : other);
  const bool told = by_precision || arguments.given("--reference-precision");
  const Model reference(arguments.words().back(), other_engine, {threads, told ? exact : "", trust});
  if (model.manifest().digest == reference.manifest().digest && model.engine() == reference.engine() && model.entry().name == reference.entry().name &&
      model.precision() == reference.precision()) {
    throw Error("V007", "the engine and the reference are the same: their answers say nothing", {},
                "give a REFERENCE bundle, a --reference-engine, or another --precision");
  }
  check_size(arguments, model.manifest().policy);
  if (model.manifest().classes != reference.manifest().classes) throw Error("V403", "the two bundles name other classes, or in another order", {}, "compare bundles of one model");
  if (model.entry().takes != reference.entry().takes && !arguments.given("--picture")) {
    throw Error("V007", "one of the graphs takes pixels, the other one normalised pictures", {}, "give --picture FILE");
  }
  const Policy &ours = model.manifest().policy, &theirs = reference.manifest().policy;
  if (!arguments.given("--picture") && (ours.height != theirs.height || ours.width != theirs.width || ours.channels() != theirs.channels())) {
    throw Error("V007", "the two networks take pictures of other sizes", {}, "give --picture FILE");
  }
  const std::vector<float> found = model.logits(input_of(model, arguments)), wanted = reference.logits(input_of(reference, arguments));
  check_logits(found, "the engine");
  check_logits(wanted, "the reference");
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(found[i]) - static_cast<double>(wanted[i])));
    largest = std::max(largest, std::abs(static_cast<double>(wanted[i])));
  }
  const double threshold = atol + rtol * largest;
  const bool same = difference <= threshold;
  const std::string name = called(model), against = called(reference);
  if (arguments.has("--json")) {
    std::printf("{\n \"norms\": [%s, %s],\n \"max_difference\": %s,\n \"threshold\": %s,\n \"same\": %s\n}\n", json::number(norm(found)).c_str(),
                json::number(norm(wanted)).c_str(), json::number(difference).c_str(), json::number(threshold).c_str(), same ? "true" : "false");
  } else {
    std::printf("%s norm:%.6f\n%s norm:%.6f\n", name.c_str(), norm(found), against.c_str(), norm(wanted));
    std::printf("Max Difference:%g\nAcceptable Threshold:%g\n", difference, threshold);
    std::printf(same ? "[SUCCESS] %s inference result is the same as %s!\n" : "[Failure] %s inference result is different from %s!\n", name.c_str(), against.c_str());
  }
  return same ? 0 : 5;
}

}  // namespace vitrail::app
