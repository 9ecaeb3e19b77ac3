#include "error.hpp"

#include <cstring>
#include <sstream>

#include "text.hpp"

namespace vitrail {

Error::Error(std::string code, const std::string& what, const std::vector<std::string>& evidence, const std::string& hint)
    : code_(std::move(code)), first_(printable(what)) {
  text_ = "error[" + code_ + "]: " + first_;
  for (const auto& line : evidence) text_ += "\n  " + printable(line);
  if (!hint.empty()) text_ += "\n\nhint: " + printable(hint);
}

int Error::exit_code() const noexcept {
  if (code_.compare(0, 3, "V70") == 0) return 4;
  if (code_.compare(0, 3, "V80") == 0) return 5;
  if (code_.compare(0, 3, "V81") == 0) return 6;
  return code_.size() == 4 && code_[0] == 'V' ? 2 : 70;
}

Error read_fault(int number, const std::string& path) {
  return Error("V702", "cannot read `" + path + "`: " + std::strerror(number), {"errno " + std::to_string(number)},
               "check the path and its permissions");
}

Error write_fault(int number, const std::string& path) {
  return Error("V701", "cannot write `" + path + "`: " + std::strerror(number), {"errno " + std::to_string(number)},
               "check that the folder exists, may be written and has room; nothing written before was touched");
}

Error cannot_answer(const std::string& engine, std::int64_t pictures, const std::string& why) {
  std::istringstream lines(why);
  std::string said;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t start = line.find_first_not_of(" \t\r");
    if (start == std::string::npos || line.compare(start, 15, "Exception from ") == 0) continue;  // a place in its source
    said += (said.empty() ? "" : " ") + line.substr(start, line.find_last_not_of(" \t\r") + 1 - start);
  }
  return Error("V703", engine + " fails on " + std::to_string(pictures) + (pictures == 1 ? " picture" : " pictures") + " at a time",
               {said.substr(0, 200)}, "free some memory, or give a smaller --batch");
}

}  // namespace vitrail
