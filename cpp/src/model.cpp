#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "graph.hpp"

namespace vitrail {

namespace {

// The graph that a runner takes of a bundle: float32 first, then by name.
const EngineEntry* graph_for(const Manifest& manifest, const RunnerRow& row) {
  const EngineEntry* taken = nullptr;
  for (const auto& entry : manifest.engines) {
    if (std::find(row.formats.begin(), row.formats.end(), entry.format) == row.formats.end()) continue;
    if (taken == nullptr || (taken->precision != "fp32" && entry.precision == "fp32")) taken = &entry;
  }
  return taken;
}

struct Taken {
  const RunnerRow* row;
  const EngineEntry* entry;
};

Taken chosen(const Manifest& manifest, const std::string& engine) {
  std::string known = "auto";
  bool met = engine == "auto";
  for (const auto& row : runners()) {
    known += std::string(", ") + row.name;
    met = met || engine == row.name;
    if (engine != "auto" && engine != row.name) continue;
    if (const EngineEntry* entry = graph_for(manifest, row)) return {&row, entry};
  }
  if (!met) throw Error("V007", "no engine of this program is called `" + engine + "`", {}, "known: " + known);
  throw Error("V504", "the bundle holds nothing that `" + engine + "` can run here", {"engines of this program: " + known},
              "add a graph with `vitrail export MODEL --format onnx`");
}

std::vector<std::string> wanted(const Manifest& manifest, const std::string& engine) { return {chosen(manifest, engine).entry->file}; }

}  // namespace

Batch::Batch(const Manifest& manifest, const EngineEntry& entry) : policy_(manifest.policy), pixels_(entry.takes == "pixels") {
  each_ = static_cast<std::size_t>(policy_.height) * policy_.width * policy_.channels() * (pixels_ ? 1 : sizeof(float));
}

std::uint8_t* Batch::next(std::int64_t count) {
  bytes_.resize(bytes_.size() + each_ * static_cast<std::size_t>(count));
  count_ += count;
  return bytes_.data() + bytes_.size() - each_ * static_cast<std::size_t>(count);
}

void* Batch::place(std::int64_t count) { return next(count); }

void Batch::add(const Picture& pixels) {
  std::uint8_t* to = next(1);
  if (pixels_) {
    std::copy(pixels.data.begin(), pixels.data.end(), to);
  } else {
    policy_.normalise(pixels, reinterpret_cast<float*>(to));
  }
}

void Batch::add_nothing() { std::memset(next(1), 0, each_); }

void Batch::add_images(const float* images, std::int64_t count) {
  if (pixels_) throw Error("V007", "the graph takes pixels, not normalised pictures", {}, "give pictures");
  std::memcpy(next(count), images, each_ * static_cast<std::size_t>(count));
}

void Batch::clear() {
  bytes_.clear();
  count_ = 0;
}

Model::Model(const std::string& folder, const std::string& engine, const RunnerOptions& options) {
  CheckedBundle bundle = open_checked(folder, wanted, engine);
  manifest_ = std::move(bundle.manifest);
  const Taken taken = chosen(manifest_, engine);
  entry_ = taken.entry;
  engine_ = taken.row->name;
  std::string& graph = bundle.kept.at(entry_->file);
  if (entry_->format == "onnx") check_graph(graph, manifest_, *entry_);
  runner_ = taken.row->open(std::move(graph), manifest_, *entry_, options);
}

std::vector<float> Model::logits(const Batch& batch) const {
  const std::size_t classes = manifest_.classes.size();
  const std::int64_t step = entry_->batch > 0 ? entry_->batch : std::max<std::int64_t>(batch.count(), 1);
  std::vector<float> found(static_cast<std::size_t>(batch.count()) * classes);
  const auto* from = static_cast<const std::uint8_t*>(batch.data());
  for (std::int64_t done = 0; done < batch.count(); done += step) {
    const std::uint8_t* part = from + static_cast<std::size_t>(done) * batch.bytes_each();
    float* out = found.data() + static_cast<std::size_t>(done) * classes;
    const std::int64_t left = batch.count() - done;
    if (left >= step) {
      runner_->logits(part, step, out);
      continue;
    }
    std::vector<std::uint8_t> filled(batch.bytes_each() * static_cast<std::size_t>(step));  // zeros behind the last
    std::copy_n(part, batch.bytes_each() * static_cast<std::size_t>(left), filled.begin());
    std::vector<float> all(static_cast<std::size_t>(step) * classes);
    runner_->logits(filled.data(), step, all.data());
    std::copy_n(all.begin(), static_cast<std::size_t>(left) * classes, out);
  }
  return found;
}

std::vector<double> softmax(const float* logits, std::size_t count) {
  const double most = *std::max_element(logits, logits + count);
  std::vector<double> found(logits, logits + count);
  for (double& value : found) value = std::exp(value - most);
  const double sum = std::accumulate(found.begin(), found.end(), 0.0);
  for (double& value : found) value /= sum;
  return found;
}

std::vector<std::size_t> best(const float* logits, std::size_t count, std::size_t top) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  order.resize(std::min(top, count));
  return order;
}

void check_finite(const std::vector<float>& values, const std::string& what, const std::string& hint) {
  if (std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) return;
  throw Error("V811", what + " are NaN or Inf", {}, hint);
}

void check_logits(const std::vector<float>& logits, const std::string& of) {
  check_finite(logits, "the logits of " + of, "check the weights and the precision");
}

}  // namespace vitrail
