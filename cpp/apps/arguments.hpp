// The command line of one verb: words in a row, --options with a value, --flags without.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "model.hpp"

namespace vitrail::app {

class Arguments {
 public:
  // options and flags: those that the verb knows. Error V001 for another one, or one without its value.
  Arguments(int count, char** words, const std::set<std::string>& options, const std::set<std::string>& flags);

  const std::vector<std::string>& words() const { return words_; }
  bool has(const std::string& flag) const { return flags_.count(flag) != 0; }
  bool given(const std::string& option) const { return values_.count(option) != 0; }
  std::string text(const std::string& option, const std::string& otherwise) const;
  // A whole number from `low` to `high`; Error V001 else.
  int whole(const std::string& option, int otherwise, int low, int high) const;
  double real(const std::string& option, double otherwise) const;  // not negative

 private:
  std::vector<std::string> words_;
  std::map<std::string, std::string> values_;
  std::set<std::string> flags_;
};

std::set<std::string> with_engine(std::set<std::string> options);
RunnerOptions runner_options(const Arguments& arguments);
Model open_model(const std::string& folder, const Arguments& arguments, std::int64_t batch = 1);  // batch: what mostly comes

Error usage(const std::string& what);  // V001

std::string fixed(double value, int digits);

// Verbs. Each gives the exit code, or throws.
int classify(const Arguments& arguments);
int evaluate(const Arguments& arguments);
int benchmark(const Arguments& arguments);
int compare(const Arguments& arguments);
int offline(const Arguments& arguments);

}  // namespace vitrail::app
