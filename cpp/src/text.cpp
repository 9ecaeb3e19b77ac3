#include "text.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>

namespace vitrail {

namespace {

struct Range {
  std::uint32_t first, last;
};

struct Folded {
  std::uint32_t point;
  std::uint32_t to[3];  // 0 where there are fewer
};

#include "unicode_tables.inc"

bool is_printable_point(std::uint32_t point) {
  const auto* after = std::upper_bound(std::begin(kNotPrintable), std::end(kNotPrintable), point,
                                       [](std::uint32_t value, const Range& range) { return value < range.first; });
  return after == std::begin(kNotPrintable) || point > (after - 1)->last;
}

}  // namespace

void append_utf8(std::string& text, std::uint32_t point) {
  const auto put = [&text](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0 | point >> 6);
    put(0x80 | (point & 63));
  } else if (point < 0x10000) {
    put(0xE0 | point >> 12);
    put(0x80 | (point >> 6 & 63));
    put(0x80 | (point & 63));
  } else {
    put(0xF0 | point >> 18);
    put(0x80 | (point >> 12 & 63));
    put(0x80 | (point >> 6 & 63));
    put(0x80 | (point & 63));
  }
}

std::uint32_t next_point(std::string_view text, std::size_t& at) {
  const auto byte = [&text](std::size_t place) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[place])); };
  const std::uint32_t first = byte(at++);
  if (first < 0x80) return first;
  const std::size_t more = first >= 0xF0 && first < 0xF5 ? 3 : first >= 0xE0 && first < 0xF0 ? 2 : first >= 0xC2 && first < 0xE0 ? 1 : 0;
  static constexpr std::array<std::uint32_t, 4> kLeast = {0, 0x80, 0x800, 0x10000};
  std::uint32_t point = more == 3 ? first & 7 : more == 2 ? first & 15 : first & 31;
  if (more == 0 || text.size() - at < more) return 0xDC00 + first;
  for (std::size_t i = 0; i < more; ++i) {
    if (byte(at + i) >> 6 != 2) return 0xDC00 + first;
    point = point << 6 | (byte(at + i) & 63);
  }
  if (point < kLeast[more] || point > 0x10FFFF) return 0xDC00 + first;
  at += more;
  return point;
}

std::size_t length(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) next_point(text, at);
  return count;
}

bool is_printable(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (!is_printable_point(next_point(text, at))) return false;
  }
  return true;
}

std::string casefold(std::string_view text) {
  std::string folded;
  for (std::size_t at = 0; at < text.size();) {
    const std::uint32_t point = next_point(text, at);
    const auto* row = std::lower_bound(std::begin(kFolded), std::end(kFolded), point,
                                       [](const Folded& entry, std::uint32_t value) { return entry.point < value; });
    if (row == std::end(kFolded) || row->point != point) {
      append_utf8(folded, point);
      continue;
    }
    for (const std::uint32_t to : row->to) {
      if (to != 0) append_utf8(folded, to);
    }
  }
  return folded;
}

std::string printable(std::string_view text) {
  if (is_printable(text)) return std::string(text);
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    const std::uint32_t point = next_point(text, at);
    if (is_printable_point(point)) {
      append_utf8(shown, point);
      continue;
    }
    char escape[16];
    const char* form = point < 0x100 ? "\\x%02x" : point < 0x10000 ? "\\u%04x" : "\\U%08x";
    std::snprintf(escape, sizeof escape, form, point);
    shown += point == '\n' ? "\\n" : point == '\r' ? "\\r" : point == '\t' ? "\\t" : escape;
  }
  return shown;
}

}  // namespace vitrail
