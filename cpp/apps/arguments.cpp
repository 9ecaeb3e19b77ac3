#include "arguments.hpp"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace vitrail::app {

Arguments::Arguments(int count, char** words, const std::set<std::string>& options, const std::set<std::string>& flags) {
  bool plain = false;  // after `--` every word is one
  for (int i = 0; i < count; ++i) {
    const std::string word = words[i];
    if (plain || word.rfind("--", 0) != 0) {
      words_.push_back(word);
    } else if (word == "--") {
      plain = true;
    } else if (flags.count(word) != 0) {
      flags_.insert(word);
    } else if (options.count(word) == 0) {
      std::string known;
      for (const auto& names : {options, flags}) {
        for (const auto& name : names) known += " " + name;
      }
      throw Error("V001", "no such option: " + word, {}, "known:" + known);
    } else if (i + 1 == count) {
      throw usage("option " + word + " needs a value");
    } else {
      values_[word] = words[++i];
    }
  }
}

std::string Arguments::text(const std::string& option, const std::string& otherwise) const {
  const auto found = values_.find(option);
  return found == values_.end() ? otherwise : found->second;
}

int Arguments::whole(const std::string& option, int otherwise, int low, int high) const {
  if (!given(option)) return otherwise;
  const std::string& text = values_.at(option);
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) {
    throw usage(option + " is `" + text + "`, not a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

double Arguments::real(const std::string& option, double otherwise) const {
  if (!given(option)) return otherwise;
  const std::string& text = values_.at(option);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0) || std::isinf(value)) {
    throw usage(option + " is `" + text + "`, not a number of 0 or more");
  }
  return value;
}

std::set<std::string> with_engine(std::set<std::string> options) {
  options.insert({"--engine", "--precision", "--threads"});
  return options;
}

RunnerOptions runner_options(const Arguments& arguments) {
  return {arguments.whole("--threads", 0, 0, 1024), arguments.text("--precision", ""), arguments.has("--trust")};
}

Model open_model(const std::string& folder, const Arguments& arguments, std::int64_t batch) {
  RunnerOptions options = runner_options(arguments);
  options.batch = batch;
  return Model(folder, arguments.text("--engine", "auto"), options);
}

Error usage(const std::string& what) { return Error("V001", what, {}, "see `vitrail-cpp --help`"); }

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace vitrail::app
