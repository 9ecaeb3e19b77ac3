#include "headers.hpp"

#include <zlib.h>

#include <cctype>
#include <cstdio>

namespace vitrail {

namespace {

constexpr std::uint32_t kTinyChunk = 4096;

bool starts_with(std::string_view data, std::string_view magic) { return data.substr(0, magic.size()) == magic; }

Error unknown_format(const std::string& name, std::string_view data) {
  std::string start = data.empty() ? "it is empty" : "it starts with";
  for (const char byte : data.substr(0, 8)) {
    char hex[4];
    std::snprintf(hex, sizeof hex, " %02x", static_cast<unsigned>(static_cast<unsigned char>(byte)));
    start += hex;
  }
  return Error("V301", name + " is no picture of an allowed format: " + start, {},
               "allowed are JPEG, PNG and WebP, whatever the file is called; convert others first");
}

struct Chunk {
  std::string_view kind;
  std::size_t start, end;
};

// The chunk that begins at `start`, checked; `tiny` counts the short ones.
Chunk png_chunk(std::string_view data, std::size_t start, int& tiny, const std::string& name) {
  if (start + 12 > data.size()) throw damaged(name, "it ends at byte " + std::to_string(data.size()) + ", before its IEND chunk");
  const std::size_t size = big(data, start, 4);
  const Chunk chunk = {data.substr(start + 4, 4), start, start + 12 + size};
  if (chunk.end > data.size()) throw damaged(name, "the chunk at byte " + std::to_string(start) + " is cut");
  bool letters = true;
  for (const char letter : chunk.kind) letters = letters && std::isalpha(static_cast<unsigned char>(letter)) != 0;
  if (!letters || (start == 8 && (chunk.kind != "IHDR" || size != 13))) {
    throw damaged(name, "there is no chunk at byte " + std::to_string(start) + " as a PNG must have one there");
  }
  tiny += size < kTinyChunk;
  if (tiny > kMaxTinyParts) throw beyond(name, "more than 10000 chunks below 4096 bytes");
  return chunk;
}

bool has_right_checksum(std::string_view data, const Chunk& chunk) {
  const auto* from = reinterpret_cast<const Bytef*>(data.data() + chunk.start + 4);
  return crc32(0, from, static_cast<uInt>(chunk.end - chunk.start - 8)) == big(data, chunk.end - 4, 4);
}

int webp_orientation(std::string_view data, const std::string& name) {
  std::size_t start = 12;
  for (int part = 0; part < kMaxTinyParts; ++part) {
    const std::size_t size = little(data, start + 4, 4);
    if (data.substr(start, 4) == "EXIF") {
      std::string_view exif = data.substr(start + 8, size);
      if (starts_with(exif, std::string_view("Exif\0\0", 6))) exif.remove_prefix(6);
      return orientation_of(exif);
    }
    start += 8 + size + (size & 1);
    if (start + 8 > data.size()) return 1;
  }
  throw beyond(name, "more than 10000 chunks");
}

}  // namespace

Error damaged(const std::string& name, const std::string& why) {
  return Error("V302", name + " is truncated or damaged: " + why, {}, "replace the file, or leave it out");
}

Error beyond(const std::string& name, const std::string& why) {
  return Error("V303", name + " exceeds a limit: " + why, {}, "make the picture smaller, or leave it out");
}

Error refused_kind(const std::string& name, const std::string& why) {
  return Error("V305", name + " holds pixels of a kind that is refused: " + why, {}, "save it as 8-bit RGB or grey, JPEG or PNG");
}

std::uint32_t big(std::string_view data, std::size_t at, int count) {
  std::uint32_t number = 0;
  for (int i = 0; i < count; ++i) number = number << 8 | static_cast<unsigned char>(data[at + static_cast<std::size_t>(i)]);
  return number;
}

std::uint32_t little(std::string_view data, std::size_t at, int count) {
  std::uint32_t number = 0;
  for (int i = count; i-- > 0;) number = number << 8 | static_cast<unsigned char>(data[at + static_cast<std::size_t>(i)]);
  return number;
}

int orientation_of(std::string_view exif) {
  const bool motorola = starts_with(exif, std::string_view("MM\0*", 4));
  if (!motorola && !starts_with(exif, std::string_view("II*\0", 4))) return 1;
  const auto read = [&](std::size_t at, int count, std::uint32_t& number) {
    if (at > exif.size() || exif.size() - at < static_cast<std::size_t>(count)) return false;
    number = motorola ? big(exif, at, count) : little(exif, at, count);
    return true;
  };
  std::uint32_t start = 0, entries = 0, tag = 0, kind = 0, count = 0, value = 0;
  if (!read(4, 4, start) || !read(start, 2, entries)) return 1;
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::size_t entry = std::size_t{start} + 2 + std::size_t{12} * i;
    if (!read(entry, 2, tag) || !read(entry + 2, 2, kind) || !read(entry + 4, 4, count) || !read(entry + 8, 2, value)) return 1;
    if (tag == 0x0112) return kind == 3 && count == 1 && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Header header_of(std::string_view data, const std::string& name) {
  if (starts_with(data, "\xff\xd8\xff")) return read_jpeg(data, name);
  if (starts_with(data, "\x89PNG\r\n\x1a\n")) return read_png(data, name);
  if (starts_with(data, "RIFF") && data.size() >= 12 && data.substr(8, 4) == "WEBP") return read_webp(data, name);
  if (starts_with(data, "GIF87a") || starts_with(data, "GIF89a") || starts_with(data, "BM")) {
    throw refused_kind(name, "BMP and GIF are read by vitrail's Python alone");
  }
  throw unknown_format(name, data);
}

Header read_png(std::string_view data, const std::string& name) {
  Header header;
  header.format = Format::png;
  header.data = data.substr(0, 8);
  std::string_view kind;
  int tiny = 0;
  for (std::size_t start = 8; kind != "IEND";) {
    const Chunk chunk = png_chunk(data, start, tiny, name);
    kind = chunk.kind;
    const bool whole = has_right_checksum(data, chunk);
    if (kind == "IHDR" || kind == "PLTE" || kind == "IDAT" || kind == "IEND") {
      if (!whole) throw damaged(name, "the " + std::string(kind) + " chunk at byte " + std::to_string(start) + " has a wrong checksum");
      if ((kind == "IHDR") != (start == 8)) throw damaged(name, "it has a second IHDR chunk");
      header.data.append(data.substr(start, chunk.end - start));
    } else if (kind[0] < 'a') {
      throw damaged(name, "the chunk at byte " + std::to_string(start) + " is critical and unknown");
    } else if (kind == "eXIf" && whole) {
      header.orientation = orientation_of(data.substr(start + 8, chunk.end - start - 12));
    }
    start = chunk.end;
  }
  header.width = big(data, 16, 4);
  header.height = big(data, 20, 4);
  return header;
}

Header read_webp(std::string_view data, const std::string& name) {
  if (data.size() < 30 || std::size_t{little(data, 4, 4)} + 8 > data.size()) throw damaged(name, "it is shorter than its header says");
  Header header;
  header.format = Format::webp;
  header.data = data;
  const std::string_view kind = data.substr(12, 4);
  if (kind == "VP8 " && data.substr(23, 3) == "\x9d\x01\x2a") {
    header.width = little(data, 26, 2) & 0x3FFF;
    header.height = little(data, 28, 2) & 0x3FFF;
  } else if (kind == "VP8L" && data[20] == 0x2F) {
    const std::uint32_t bits = little(data, 21, 4);
    header.width = (bits & 0x3FFF) + 1;
    header.height = (bits >> 14 & 0x3FFF) + 1;
  } else if (kind == "VP8X") {
    header.width = std::int64_t{little(data, 24, 3)} + 1;
    header.height = std::int64_t{little(data, 27, 3)} + 1;
    header.orientation = webp_orientation(data, name);
  } else {
    throw damaged(name, "its first chunk is no WebP picture");
  }
  return header;
}

}  // namespace vitrail
