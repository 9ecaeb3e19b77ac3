// Pictures before decoding: size, bounds, work and orientation, read from the bytes alone, by the rules of
// vitrail/pictures/{headers,jpeg,exif}.py. A decoder is handed only what the pixels need.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "picture.hpp"

namespace vitrail {

enum class Format { jpeg, png, webp };

struct Header {
  Format format = Format::jpeg;
  std::int64_t width = 0, height = 0;
  std::string data;     // what the pixels need
  int orientation = 1;  // EXIF, 1 to 8
  int components = 0;   // of a JPEG
};

// Error V301 for what is no picture of an allowed format, V302 damaged, V303 a limit, V305 a kind that is refused.
Header header_of(std::string_view data, const std::string& name);

Header read_jpeg(std::string_view data, const std::string& name);
Header read_png(std::string_view data, const std::string& name);
Header read_webp(std::string_view data, const std::string& name);

// EXIF orientation 1 to 8 out of a TIFF block; 1 for whatever is absent, broken or out of range.
int orientation_of(std::string_view exif);

// A JPEG with bytes put after its first scan: the picture stays the same if that scan was whole. libjpeg fills what a
// cut scan does not hold with grey and only warns.
std::string lengthened(std::string_view data);

// `count` bytes at `at` as a number, most or least significant byte first.
std::uint32_t big(std::string_view data, std::size_t at, int count);
std::uint32_t little(std::string_view data, std::size_t at, int count);

}  // namespace vitrail
