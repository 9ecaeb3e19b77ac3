// Texts as Python sees them: code points, what is printable, names that differ by case alone.
// UTF-8 throughout; a lone surrogate, which JSON may hold, stands as its three bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vitrail {

void append_utf8(std::string& text, std::uint32_t point);

// The next code point of `text` from `at`, which moves on; bytes that are no UTF-8 come as 0xDC00 + byte.
std::uint32_t next_point(std::string_view text, std::size_t& at);

std::size_t length(std::string_view text);  // in code points
bool is_printable(std::string_view text);   // Python's str.isprintable
std::string casefold(std::string_view text);

// `text` on one line, with control characters, broken UTF-8 and lone surrogates escaped.
std::string printable(std::string_view text);

}  // namespace vitrail
