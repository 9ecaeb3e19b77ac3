// From a file to pixels by one rule, vitrail/pictures/decode.py's: the same bytes give the same pixels, here and there.
// JPEG, PNG and WebP; BMP and GIF are left to Python.
#pragma once

#include <string>
#include <string_view>

#include "headers.hpp"
#include "picture.hpp"

namespace vitrail {

// Pixels (H, W, channels) of the bytes of a file. channels: 1 or 3. name: how errors call it.
// Error V301 no picture, V302 damaged, V303 a limit, V305 a kind of pixels that is refused.
Picture decode(std::string_view data, const std::string& name, int channels);

// The same of a file; V304 too, for one that cannot be opened.
Picture decode_file(const std::string& path, int channels);

// The bytes of a regular file: nothing that could block is ever waited for. Error V303 or V304.
std::string picture_bytes(const std::string& path);

// Pixels as they are stored, before orientation, of 1 or 3 channels.
Picture decode_jpeg(const Header& header, const std::string& name);
Picture decode_png(const Header& header, const std::string& name);
Picture decode_webp(const Header& header, const std::string& name);

// Grey repeated, colour turned to grey. Error V305 where neither goes.
Picture with_channels(Picture picture, int channels, const std::string& name);

}  // namespace vitrail
