// Pixels in memory, and what a picture may cost.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "error.hpp"

namespace vitrail {

struct Picture {  // (height, width, channels), rows from the top
  int height = 0, width = 0, channels = 0;
  std::vector<std::uint8_t> data;

  Picture() = default;
  Picture(int tall, int wide, int deep)
      : height(tall), width(wide), channels(deep), data(static_cast<std::size_t>(tall) * wide * deep) {}
  std::uint8_t* row(int y) { return data.data() + static_cast<std::size_t>(y) * width * channels; }
  const std::uint8_t* row(int y) const { return data.data() + static_cast<std::size_t>(y) * width * channels; }
};

constexpr std::int64_t kMaxPixels = 89'478'485;
constexpr std::size_t kMaxBytes = 256u << 20;
constexpr int kMaxTinyParts = 10'000;

// V302: it starts like a picture and does not go on like one. V303: it would cost more than a picture may.
// V305: pixels that the decoding rule does not cover.
Error damaged(const std::string& name, const std::string& why);
Error beyond(const std::string& name, const std::string& why);
Error refused_kind(const std::string& name, const std::string& why);

}  // namespace vitrail
