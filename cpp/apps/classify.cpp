// What is on pictures, printed as `vitrail predict` prints it.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "arguments.hpp"
#include "text.hpp"

namespace vitrail::app {

namespace {

constexpr int kBar = 24;  // characters of a full bar

struct Answer {
  std::string name;
  std::optional<Error> error;
  std::vector<std::size_t> classes;  // best first
  std::vector<double> probabilities;
};

std::string padded(const std::string& text, std::size_t width) { return text + std::string(width - std::min(width, length(text)), ' '); }

void print_bars(const Answer& answer, const std::vector<std::string>& names) {
  std::printf("%s\n", printable(answer.name).c_str());
  if (answer.error) {
    std::printf("  error[%s]: %s\n", answer.error->code().c_str(), answer.error->first_line().c_str());
    return;
  }
  std::size_t width = 0;
  for (const std::size_t place : answer.classes) width = std::max(width, length(names[place]));
  for (std::size_t i = 0; i < answer.classes.size(); ++i) {
    const int filled = static_cast<int>(std::nearbyint(kBar * answer.probabilities[i]));
    std::string bar;
    for (int step = 0; step < kBar; ++step) bar += step < filled ? "█" : "░";
    std::printf("  %s  %s  %6.2f %%\n", padded(names[answer.classes[i]], width).c_str(), bar.c_str(), 100 * answer.probabilities[i]);
  }
}

std::string as_json(const Answer& answer, const std::vector<std::string>& names) {
  std::string text = " {\n  \"picture\": " + json::quoted(answer.name) + ",\n";
  if (answer.error) {
    return text + "  \"error\": " + json::quoted(answer.error->code()) + ",\n  \"what\": " + json::quoted(answer.error->first_line()) + "\n }";
  }
  text += "  \"classes\": [";
  for (std::size_t i = 0; i < answer.classes.size(); ++i) {
    text += std::string(i == 0 ? "" : ",") + "\n   {\n    \"class\": " + json::quoted(names[answer.classes[i]]) + ",\n    \"probability\": " +
            json::number(answer.probabilities[i]) + "\n   }";
  }
  return text + "\n  ]\n }";
}

// The answers of some pictures, by one call of the engine.
std::vector<Answer> answers(const Model& model, const std::vector<std::string>& paths, std::size_t top) {
  const Policy& policy = model.manifest().policy;
  const std::size_t classes = model.manifest().classes.size();
  std::vector<Answer> found;
  Batch batch = model.batch();
  for (const auto& path : paths) {
    found.push_back({path, std::nullopt, {}, {}});
    try {
      batch.add(policy.pixels(decode_file(path, policy.channels()), "`" + path + "`"));
    } catch (const Error& error) {
      if (error.code().compare(0, 2, "V3") != 0) throw;
      found.back().error = error;
    }
  }
  const std::vector<float> logits = batch.count() > 0 ? model.logits(batch) : std::vector<float>();
  check_logits(logits, "a picture");
  const float* row = logits.data();
  for (Answer& answer : found) {
    if (answer.error) continue;
    const std::vector<double> all = softmax(row, classes);
    answer.classes = best(row, classes, top);
    for (const std::size_t place : answer.classes) answer.probabilities.push_back(all[place]);
    row += classes;
  }
  return found;
}

}  // namespace

int classify(const Arguments& arguments) {
  if (arguments.words().size() < 2) throw usage("classify takes a BUNDLE and one PICTURE or more");
  const auto top = static_cast<std::size_t>(arguments.whole("--top", 5, 1, 1 << 20));
  const auto step = static_cast<std::size_t>(arguments.whole("--batch", 32, 1, 65536));
  const std::vector<std::string> paths(arguments.words().begin() + 1, arguments.words().end());
  const Model model = open_model(arguments.words()[0], arguments, static_cast<std::int64_t>(std::min(step, paths.size())));
  bool failed = false;
  std::string rows;
  for (std::size_t start = 0; start < paths.size(); start += step) {
    const auto from = paths.begin() + static_cast<std::ptrdiff_t>(start);
    const std::vector<std::string> some(from, from + static_cast<std::ptrdiff_t>(std::min(step, paths.size() - start)));
    for (const Answer& answer : answers(model, some, top)) {
      failed = failed || answer.error.has_value();
      if (arguments.has("--json")) {
        rows += (rows.empty() ? "" : ",\n") + as_json(answer, model.manifest().classes);
      } else {
        print_bars(answer, model.manifest().classes);
      }
    }
  }
  if (arguments.has("--json")) std::printf("[\n%s\n]\n", rows.c_str());
  return failed ? 2 : 0;
}

}  // namespace vitrail::app
