// Every way this library says no: the codes, words and exit codes of vitrail/errors.py.
#pragma once

#include <cerrno>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

namespace vitrail {

// What went wrong, with its evidence and the way out. code: a row of docs/errors.md.
class Error : public std::exception {
 public:
  Error(std::string code, const std::string& what, const std::vector<std::string>& evidence = {}, const std::string& hint = {});

  const char* what() const noexcept override { return text_.c_str(); }
  const std::string& code() const noexcept { return code_; }
  const std::string& first_line() const noexcept { return first_; }

  // 2 refused, 4 fault of disk, memory or system, 5 measured answers differ, 6 numbers broke, 70 a bug of ours.
  int exit_code() const noexcept;

 private:
  std::string code_;
  std::string first_;  // what went wrong, on one line
  std::string text_;   // everything, as it is printed
};

Error read_fault(int number, const std::string& path);
Error write_fault(int number, const std::string& path);

// What an engine that gives no answer is told of with: as a rule it lacks memory. As `engine_fault` of vitrail/errors.py.
Error cannot_answer(const std::string& engine, std::int64_t pictures, const std::string& why);

}  // namespace vitrail
