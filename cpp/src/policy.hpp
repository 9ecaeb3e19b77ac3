// What is done to a picture before the network: vitrail/pictures/policy.py, to the last bit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "picture.hpp"

namespace vitrail {

struct Policy {
  int height = 0, width = 0;
  std::string mode;  // crop, squash or pad
  double crop = 1.0;
  std::string interpolation;
  std::vector<double> mean, deviation;  // of pixels in [0, 1], a value a channel

  int channels() const { return static_cast<int>(mean.size()); }

  // Everything that no picture can be prepared with, in one line; empty where all is well.
  std::string problem() const;

  // Pixels (height, width, channels): resized, cropped or framed. Error V303 beyond the limit of pixels.
  Picture pixels(const Picture& stored, const std::string& name) const;

  // Network input (C, H, W) of pixels (H, W, C): float32((u / 255 - mean) / deviation), computed in double.
  void normalise(const Picture& pixels, float* out) const;
};

struct Size {
  std::int64_t height, width;
};

// The size before the crop; the roundings are timm's and torchvision's.
Size resized(const Policy& policy, int height, int width);

}  // namespace vitrail
