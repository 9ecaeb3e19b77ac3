#include "error.hpp"

#include <cstring>

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

}  // namespace vitrail
