// JPEG before decoding (ITU T.81, annex B), by the rules of vitrail/pictures/jpeg.py.

#include <algorithm>

#include "headers.hpp"

namespace vitrail {

namespace {

constexpr std::size_t kMaxHead = 16u << 20;  // what may stand before the first coded pixel
constexpr std::int64_t kPixelsPerByte = 1000, kScanPixels = 2'000'000'000;
constexpr int kScans = 100;
constexpr int kStart = 0xD8, kEnd = 0xD9, kScan = 0xDA;

int byte(std::string_view data, std::size_t at) { return static_cast<unsigned char>(data[at]); }

bool is_frame(int marker) { return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC; }
bool is_bare(int marker) { return marker == 0x01 || (marker >= 0xD0 && marker <= kStart); }  // without a length
bool is_restart(int marker) { return marker >= 0xD0 && marker <= 0xD7; }

// Tables, frames, and the two segments that libjpeg takes the colour space from. No EXIF, profile or thumbnail.
bool is_kept(int marker) {
  return marker == 0xC4 || marker == 0xDB || marker == 0xDD || marker == 0xE0 || marker == 0xEE || is_frame(marker);
}

// The place of the next marker from `at` on; the size of the data where there is none.
std::size_t next_marker(std::string_view data, std::size_t at, bool within_scan) {
  for (; at + 1 < data.size(); ++at) {
    const int kind = byte(data, at + 1);
    if (byte(data, at) == 0xFF && kind >= 0x01 && kind <= 0xFE && !(within_scan && is_restart(kind))) return at;
  }
  return data.size();
}

struct Segment {
  int marker;
  std::size_t start, end;
};

Segment segment_of(std::string_view data, std::size_t at, const std::string& name) {
  while ((at = next_marker(data, at, false)) < data.size()) {
    const int marker = byte(data, at + 1);
    if (marker == kEnd) return {marker, at, at + 2};
    if (!is_bare(marker)) {
      const std::size_t size = at + 4 <= data.size() ? big(data, at + 2, 2) : 0;
      if (size < 2 || at + 2 + size > data.size() || (marker == kScan && size < 3)) {
        throw damaged(name, "the segment at byte " + std::to_string(at) + " is cut");
      }
      return {marker, at, at + 2 + size};
    }
    at += 2;
  }
  throw damaged(name, "it ends before the first scan");
}

void read_frame(int kind, std::string_view frame, Header& header, const std::string& name) {
  if (frame.size() < 6) throw damaged(name, "it has no frame header before its first scan");
  if (kind != 0xC0 && kind != 0xC1 && kind != 0xC2) {
    throw refused_kind(name, kind >= 0xC9 ? "JPEG, arithmetic coding" : "JPEG, lossless or hierarchical");
  }
  if (byte(frame, 0) != 8) throw refused_kind(name, "JPEG of " + std::to_string(byte(frame, 0)) + " bits");
  header.components = byte(frame, 5);
  if (header.components != 1 && header.components != 3 && header.components != 4) {
    throw refused_kind(name, "JPEG of " + std::to_string(header.components) + " components");
  }
  header.height = big(frame, 1, 2);
  header.width = big(frame, 3, 2);
}

void check_work(std::string_view data, std::size_t first_scan, std::int64_t pixels, bool several, const std::string& name) {
  if (pixels > kPixelsPerByte * static_cast<std::int64_t>(data.size())) {
    throw beyond(name, std::to_string(pixels) + " pixels out of " + std::to_string(data.size()) + " bytes, the limit is 1000 per byte");
  }
  if (!several) return;
  std::int64_t scans = 0;
  for (std::size_t at = first_scan; (at = next_marker(data, at, true)) < data.size();) {
    const int marker = byte(data, at + 1);
    at += 2;
    if (marker == kEnd) break;
    scans += marker == kScan;
    if (scans > kScans) throw beyond(name, "more than 100 scans");
    if (!is_bare(marker)) {
      const int there = at + 2 <= data.size() ? 2 : static_cast<int>(data.size() - at);
      at += std::max<std::size_t>(big(data, at, there), 2);
    }
    if (at > data.size()) break;
  }
  if (scans * pixels > kScanPixels) {
    throw beyond(name, std::to_string(scans) + " scans of " + std::to_string(pixels) + " pixels, the limit is 2000000000 together");
  }
}

// What no scan reads when it is whole: codes that are no grey, and restart markers for a scan that waits for one.
std::string tail() {
  std::string codes, all;
  for (int i = 0; i < 512; ++i) codes.push_back(static_cast<char>((i * i * 37 + i * 11 + 5) % 251));
  all = codes;
  for (int restart = 0xD0; restart < 0xD8; ++restart) {
    all += {static_cast<char>(0xFF), static_cast<char>(restart)};
    all += codes;
  }
  return all;
}

}  // namespace

Header read_jpeg(std::string_view data, const std::string& name) {
  Header header;
  header.data = data.substr(0, 2);
  std::string_view frame;
  int kind = 0;
  std::size_t start = 2;
  while (true) {
    const Segment segment = segment_of(data, start, name);
    if (segment.marker == kEnd) throw damaged(name, "it ends before the first scan");
    if (segment.end > kMaxHead) throw beyond(name, std::to_string(segment.end) + " bytes of markers before the first scan, the limit is 16777216");
    start = segment.start;
    if (segment.marker == kScan) break;
    const std::string_view body = data.substr(segment.start + 4, segment.end - segment.start - 4);
    if (is_frame(segment.marker)) {
      if (!frame.empty()) throw damaged(name, "it has two frame headers");
      kind = segment.marker;
      frame = body;
    }
    if (segment.marker == 0xE1 && header.orientation == 1 && body.substr(0, 6) == std::string_view("Exif\0\0", 6)) {
      header.orientation = orientation_of(body.substr(6));
    }
    if (is_kept(segment.marker)) header.data.append(data.substr(segment.start, segment.end - segment.start));
    start = segment.end;
  }
  read_frame(kind, frame, header, name);
  const bool several = kind == 0xC2 || byte(data, start + 4) < header.components;
  check_work(data, start, header.width * header.height, several, name);
  header.data.append(data.substr(start));
  return header;
}

std::string lengthened(std::string_view data) {
  std::size_t start = 2;
  Segment segment{};
  do {
    segment = segment_of(data, start, "");
    start = segment.end;
  } while (segment.marker != kScan);
  const std::size_t stop = next_marker(data, segment.end, true);
  return std::string(data.substr(0, stop)) + tail() + std::string(data.substr(stop));
}

}  // namespace vitrail
