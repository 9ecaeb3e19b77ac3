#include "model.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string_view>
#include <tuple>

namespace vitrail {

namespace {

constexpr std::string_view kPrecisions[] = {"fp32", "bf16", "fp16", "int8"};  // the most exact first

std::size_t rank_of(const EngineEntry& entry) { return std::find(std::begin(kPrecisions), std::end(kPrecisions), entry.precision) - std::begin(kPrecisions); }

struct Way {
  const RunnerRow* row;
  const EngineEntry* entry;
};

// An ONNX graph in 8 bits is another function in OpenVINO.
bool runs(const RunnerRow& row, const EngineEntry& entry) {
  if (std::string_view(row.name) == "openvino" && entry.format == "onnx" && entry.precision == "int8") return false;
  return std::find(row.formats.begin(), row.formats.end(), entry.format) != row.formats.end();
}

// What an engine can run of a bundle, first the most exact, then in the engine's own format, then of any batch.
const EngineEntry* graph_for(const Manifest& manifest, const RunnerRow& row, const std::string& precision) {
  const auto order = [&](const EngineEntry& entry) {
    const auto format = std::find(row.formats.begin(), row.formats.end(), entry.format) - row.formats.begin();
    return std::make_tuple(rank_of(entry), format, entry.batch, entry.top, std::string_view(entry.name));
  };
  const EngineEntry* taken = nullptr;
  for (const auto& entry : manifest.engines) {
    if (!runs(row, entry) || (!precision.empty() && entry.precision != precision)) continue;
    if (taken == nullptr || order(entry) < order(*taken)) taken = &entry;
  }
  return taken;
}

// Whether a program was made on this machine: vitrail/engines/trust.py leaves an empty file for each.
bool made_here(const std::string& sha256) {
  const auto said = [](const char* name) { return std::string(std::getenv(name) == nullptr ? "" : std::getenv(name)); };
  const std::string state = said("XDG_STATE_HOME"), home = said("HOME");
  if (state.empty() && home.empty()) return false;
  struct stat status {};
  return stat(((state.empty() ? home + "/.local/state" : state) + "/vitrail/made-here/" + sha256).c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

bool may_run(const Manifest& manifest, const Way& way, bool trust) {
  return !way.row->program || trust || made_here(manifest.file(way.entry->file)->sha256);
}

void check_trusted(const Manifest& manifest, const Way& way, bool trust) {
  if (may_run(manifest, way, trust)) return;
  throw Error("V509", "`" + way.entry->file + "` is a program, and was not made on this machine", {},
              "run it with --trust if you know its maker, or take another engine: onnx and openvino hold data alone");
}

// What a word for an engine asks for: a graph by its name, an engine or `auto`, alone or with a precision behind it.
struct Asked {
  std::string engine, precision;
  const EngineEntry* entry = nullptr;
};

Asked asked(const Manifest& manifest, const std::string& word) {
  for (const auto& entry : manifest.engines) {
    if (entry.name != word) continue;
    for (const auto& row : runners()) {
      if (row.formats[0] == entry.format) return {row.name, entry.precision, &entry};
    }
    throw Error("V504", "no engine of this program runs `" + word + "`", {}, "take another graph, or Python");
  }
  std::string known = "auto";
  const std::size_t dash = word.rfind('-');
  const bool precise = dash != std::string::npos && std::find(std::begin(kPrecisions), std::end(kPrecisions), word.substr(dash + 1)) != std::end(kPrecisions);
  const std::string engine = precise ? word.substr(0, dash) : word;
  bool met = engine == "auto";
  for (const auto& row : runners()) {
    known += std::string(", ") + row.name;
    met = met || engine == row.name;
  }
  if (!met) throw Error("V007", "no engine of this program is called `" + word + "`", {}, "known: " + known);
  return {engine, precise ? word.substr(dash + 1) : ""};
}

Way chosen(const Manifest& manifest, const std::string& word, bool trust) {
  const Asked what = asked(manifest, word);
  std::vector<Way> ways;
  for (const auto& row : runners()) {
    if (what.engine != "auto" && what.engine != row.name) continue;
    const EngineEntry* entry = what.entry != nullptr ? what.entry : graph_for(manifest, row, what.precision);
    if (entry != nullptr) ways.push_back({&row, entry});
  }
  if (ways.empty()) {
    std::string held;
    for (const auto& entry : manifest.engines) held += (held.empty() ? "" : ", ") + entry.name;
    throw Error("V504", "the bundle holds nothing that `" + word + "` can run here", {"it holds: " + (held.empty() ? "no graph" : held)},
                "add a graph with `vitrail export MODEL --format onnx`");
  }
  if (what.engine != "auto") return ways[0];
  std::size_t best = rank_of(*ways[0].entry);
  for (const Way& way : ways) best = std::min(best, rank_of(*way.entry));
  const auto exact = std::remove_if(ways.begin(), ways.end(), [&](const Way& way) { return rank_of(*way.entry) != best; });
  // Programs only where they are trusted; machine code, which may be another processor's, only where nothing else is.
  const auto ready = std::find_if(ways.begin(), exact, [&](const Way& way) { return !way.row->native && may_run(manifest, way, trust); });
  return ready != exact ? *ready : ways[0];
}

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
  CheckedBundle bundle = open_checked(folder, [&](const Manifest& manifest) {
    const EngineEntry& entry = *chosen(manifest, engine, options.trust).entry;
    std::vector<std::string> names = beside(entry);
    names.insert(names.begin(), entry.file);
    return names;
  });
  manifest_ = std::move(bundle.manifest);
  const Way taken = chosen(manifest_, engine, options.trust);
  check_trusted(manifest_, taken, options.trust);
  entry_ = taken.entry;
  engine_ = taken.row->name;
  precision_ = computed_in(engine_, *entry_, options);
  runner_ = taken.row->open({std::move(bundle.kept), manifest_, *entry_}, options);
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
