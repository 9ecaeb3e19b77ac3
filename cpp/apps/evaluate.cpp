// Top-1 and top-5 over labelled pictures, each once: exactly Python's. Unreadable pictures count as wrong.

#include <algorithm>
#include <cstdio>

#include "arguments.hpp"
#include "data.hpp"

namespace vitrail::app {

namespace {

struct Bad {
  std::string path, code, what;
};

struct Counts {
  std::size_t pictures = 0, correct = 0, in_five = 0;
  std::vector<Bad> bad;
};

// How many classes come before the true one; of equal logits the lower class comes first.
std::size_t rank_of(const float* row, std::size_t classes, std::size_t label) {
  std::size_t before = 0;
  for (std::size_t i = 0; i < classes; ++i) before += row[i] > row[label] || (row[i] == row[label] && i < label);
  return before;
}

void ask(const Model& model, const std::vector<Labelled>& some, Counts& counts) {
  const Policy& policy = model.manifest().policy;
  const std::size_t classes = model.manifest().classes.size();
  Batch batch = model.batch();
  std::vector<bool> read;
  for (const auto& picture : some) {
    try {
      batch.add(policy.pixels(decode_file(picture.path, policy.channels()), "`" + picture.path + "`"));
      read.push_back(true);
    } catch (const Error& error) {
      if (error.code().compare(0, 2, "V3") != 0) throw;
      counts.bad.push_back({picture.path, error.code(), error.first_line()});
      batch.add_nothing();
      read.push_back(false);
    }
  }
  const std::vector<float> logits = model.logits(batch);
  check_logits(logits, "a picture");
  for (std::size_t i = 0; i < some.size(); ++i) {
    const std::size_t rank = rank_of(logits.data() + i * classes, classes, static_cast<std::size_t>(some[i].label));
    counts.correct += read[i] && rank == 0;
    counts.in_five += read[i] && rank < 5;
  }
  counts.pictures += some.size();
}

void print_json(const Counts& counts) {
  const auto share = [&](std::size_t part) { return json::number(static_cast<double>(part) / static_cast<double>(counts.pictures)); };
  std::printf("{\n \"pictures\": %zu,\n \"correct\": %zu,\n \"top1\": %s,\n \"top5\": %s,\n \"bad\": [", counts.pictures, counts.correct,
              share(counts.correct).c_str(), share(counts.in_five).c_str());
  for (std::size_t i = 0; i < counts.bad.size(); ++i) {
    const Bad& bad = counts.bad[i];
    std::printf("%s\n  {\n   \"name\": %s,\n   \"code\": \"%s\",\n   \"what\": %s\n  }", i == 0 ? "" : ",", json::quoted(bad.path).c_str(),
                bad.code.c_str(), json::quoted(bad.what).c_str());
  }
  std::printf("%s]\n}\n", counts.bad.empty() ? "" : "\n ");
}

}  // namespace

int evaluate(const Arguments& arguments) {
  if (arguments.words().size() != 2) throw usage("evaluate takes a BUNDLE and its DATA");
  const auto step = static_cast<std::size_t>(arguments.whole("--batch", 64, 1, 65536));
  const Model model = open_model(arguments.words()[0], arguments, static_cast<std::int64_t>(step));
  if (model.manifest().weights == "random") throw Error("V005", "the bundle has random weights: there is nothing to evaluate", {}, "train it first");
  const std::vector<Labelled> all = labelled(arguments.words()[1], model.manifest().classes);
  Counts counts;
  for (std::size_t start = 0; start < all.size(); start += step) {
    const auto from = all.begin() + static_cast<std::ptrdiff_t>(start);
    ask(model, {from, from + static_cast<std::ptrdiff_t>(std::min(step, all.size() - start))}, counts);
  }
  if (arguments.has("--json")) {
    print_json(counts);
    return 0;
  }
  const double pictures = static_cast<double>(counts.pictures);
  for (const Bad& bad : counts.bad) std::fprintf(stderr, "counted as wrong: %s\n", bad.what.c_str());
  std::printf("%zu pictures, %zu right, %zu among the first five, %zu unreadable\n", counts.pictures, counts.correct, counts.in_five, counts.bad.size());
  std::printf("top1 is %s, top5 is %s, step is %zu\n", json::number(100 * static_cast<double>(counts.correct) / pictures).c_str(),
              json::number(100 * static_cast<double>(counts.in_five) / pictures).c_str(), (all.size() + step - 1) / step);
  return 0;
}

}  // namespace vitrail::app
