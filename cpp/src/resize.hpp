// Resizing by Pillow's 8-bit arithmetic, the same to the byte as vitrail/pictures/resize.py on every version of Pillow.
#pragma once

#include <string>

#include "picture.hpp"

namespace vitrail {

struct Window {  // the part of the resized picture that is wanted
  int top, left, height, width;
};

bool is_interpolation(const std::string& name);

// Horizontal pass first, 8-bit after each pass; a pass that changes nothing is none.
Picture resize(const Picture& picture, int height, int width, const std::string& interpolation, const Window& window);

}  // namespace vitrail
