#include "json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>

#include "error.hpp"
#include "text.hpp"

namespace vitrail::json {

namespace {

constexpr int kDeepest = 32;
constexpr std::ptrdiff_t kValues = 500'000;
constexpr std::size_t kDigits = 4300;  // Python reads no longer whole numbers

class Reader {
 public:
  Reader(std::string_view data, const std::string& where) : data_(data), where_(where) {}

  Object read() {
    const auto marks = std::count_if(data_.begin(), data_.end(), [](char c) { return c == ',' || c == '[' || c == '{'; });
    if (marks > kValues) refuse("it has more than 500000 values");
    if (data_.empty() || data_[0] != '{') refuse("it is no JSON object");
    Object found = object(0);
    expect("\n");
    if (at_ != data_.size()) refuse("something follows its end");
    return found;
  }

 private:
  [[noreturn]] void refuse(const char* why) const {
    throw Error("V501", where_ + " is not in its one canonical form, so it was edited or damaged",
                {"at byte " + std::to_string(at_) + ": " + why}, "make the bundle again from its weights");
  }

  char peek() const { return at_ < data_.size() ? data_[at_] : '\0'; }

  void expect(std::string_view wanted) {
    if (data_.substr(at_, wanted.size()) != wanted) refuse("another form than it is written in");
    at_ += wanted.size();
  }

  void new_line(int depth) {
    expect("\n");
    for (int i = 0; i < depth; ++i) expect(" ");
  }

  Value value(int depth) {
    if (depth > kDeepest) refuse("nested deeper than 32");
    switch (peek()) {
      case '{':
        return {object(depth)};
      case '[':
        return {list(depth)};
      case '"':
        return {text()};
      case 'n':
        return expect("null"), Value{Null{}};
      case 't':
        return expect("true"), Value{true};
      case 'f':
        return expect("false"), Value{false};
      default:
        return number();
    }
  }

  List list(int depth) {
    List found;
    expect("[");
    if (peek() == ']') return expect("]"), found;
    while (true) {
      new_line(depth + 1);
      found.push_back(value(depth + 1));
      if (peek() != ',') break;
      expect(",");
    }
    new_line(depth);
    expect("]");
    return found;
  }

  Object object(int depth) {
    Object found;
    expect("{");
    if (peek() == '}') return expect("}"), found;
    while (true) {
      new_line(depth + 1);
      std::string key = text();
      if (!found.empty() && found.back().first >= key) refuse("its keys are not sorted, or one stands twice");
      expect(": ");
      found.emplace_back(std::move(key), value(depth + 1));
      if (peek() != ',') break;
      expect(",");
    }
    new_line(depth);
    expect("}");
    return found;
  }

  std::string text() {
    std::string found;
    const std::size_t start = at_;
    expect("\"");
    while (peek() != '"') {
      if (at_ >= data_.size()) refuse("a text has no end");
      if (peek() != '\\') {
        found.push_back(data_[at_++]);
        continue;
      }
      std::uint32_t point = escape();
      if (point >= 0xD800 && point < 0xDC00 && data_.substr(at_, 3) == "\\ud") {
        const std::size_t before = at_;
        const std::uint32_t low = escape();
        if (low >= 0xDC00 && low < 0xE000) {
          point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
        } else {
          at_ = before;
        }
      }
      append_utf8(found, point);
    }
    expect("\"");
    if (quoted(found) != data_.substr(start, at_ - start)) refuse("a text is written in another way");
    return found;
  }

  std::uint32_t escape() {
    expect("\\");
    static constexpr std::string_view kShort = "\"\\nrtfb", kMeant = "\"\\\n\r\t\f\b";
    const char kind = peek();
    ++at_;
    if (kind != 'u') {
      const auto place = kShort.find(kind);
      if (kind == '\0' || place == std::string_view::npos) refuse("an unknown escape");
      return static_cast<unsigned char>(kMeant[place]);
    }
    std::uint32_t point = 0;
    const std::string_view digits = data_.substr(at_, 4);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), point, 16);
    if (digits.size() != 4 || error != std::errc() || end != digits.data() + 4) refuse("an escape is cut");
    at_ += 4;
    return point;
  }

  Value number() {
    const std::size_t start = at_;
    while (at_ < data_.size() && std::string_view("+-.0123456789e").find(data_[at_]) != std::string_view::npos) ++at_;
    const std::string_view word = data_.substr(start, at_ - start);
    const bool negative = !word.empty() && word[0] == '-';
    const std::string_view digits = word.substr(negative);
    if (digits.empty() || digits[0] < '0' || digits[0] > '9') refuse("no value");
    if (digits.find_first_not_of("0123456789") != std::string_view::npos) return real(word);
    if (digits.size() > kDigits || (digits[0] == '0' && word != "0")) refuse("a number is written in another way");
    std::int64_t whole = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), whole);
    return error == std::errc() ? Value{whole} : Value{Large{large(digits, negative)}};
  }

  static double large(std::string_view digits, bool negative) {
    double found = std::numeric_limits<double>::infinity();
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), found);
    if (error != std::errc()) found = std::numeric_limits<double>::infinity();
    return negative ? -found : found;
  }

  Value real(std::string_view word) {
    double found = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), found);
    // What is too small for a double is an error here and 0 there: neither is written like that again.
    if (error != std::errc() || end != word.data() + word.size() || json::number(found) != word) {
      refuse("a number is written in another way");
    }
    return {found};
  }

  std::string_view data_;
  const std::string& where_;
  std::size_t at_ = 0;
};

}  // namespace

bool Value::is_number(double& number) const {
  if (const auto* whole = integer()) {
    number = static_cast<double>(*whole);
  } else if (const auto* real = std::get_if<double>(&held)) {
    number = *real;
  } else if (const auto* large = std::get_if<Large>(&held)) {
    number = large->value;
  } else {
    return false;
  }
  return true;
}

const Value* find(const Object& object, std::string_view key) {
  for (const auto& [name, value] : object) {
    if (name == key) return &value;
  }
  return nullptr;
}

Object parse_canonical(std::string_view data, const std::string& where) { return Reader(data, where).read(); }

std::string quoted(std::string_view text) {
  std::string out = "\"";
  char escape[16];
  for (std::size_t at = 0; at < text.size();) {
    const std::uint32_t point = next_point(text, at);
    const auto place = std::string_view("\"\\\n\r\t\f\b").find(static_cast<char>(point));
    if (point < 0x80 && place != std::string_view::npos) {
      out += {'\\', "\"\\nrtfb"[place]};
    } else if (point >= 0x20 && point < 0x7F) {
      out.push_back(static_cast<char>(point));
    } else if (point < 0x10000) {
      std::snprintf(escape, sizeof escape, "\\u%04x", point);
      out += escape;
    } else {
      std::snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xD800 + ((point - 0x10000) >> 10),
                    0xDC00 + ((point - 0x10000) & 0x3FF));
      out += escape;
    }
  }
  return out + "\"";
}

std::string number(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity";
  char shortest[40];
  const auto [end, error] = std::to_chars(shortest, shortest + sizeof shortest, std::abs(value), std::chars_format::scientific);
  const std::string_view all(shortest, static_cast<std::size_t>(end - shortest));
  const std::size_t mark = all.find('e');
  std::string digits;
  std::copy_if(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(mark), std::back_inserter(digits), [](char c) { return c != '.'; });
  int exponent = 0;
  const char* from = all.data() + mark + 1;
  std::from_chars(*from == '+' ? from + 1 : from, end, exponent);
  const std::string sign = std::signbit(value) ? "-" : "";
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    const std::string rest = count > 1 ? "." + digits.substr(1) : "";
    char power[16];
    std::snprintf(power, sizeof power, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return sign + digits[0] + rest + power;
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) return sign + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  return sign + digits.substr(0, static_cast<std::size_t>(exponent) + 1) + "." + digits.substr(static_cast<std::size_t>(exponent) + 1);
}

}  // namespace vitrail::json
