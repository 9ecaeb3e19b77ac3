// WebP by libwebp's animation decoder, which Pillow uses for still pictures too: the first frame, alpha dropped. It does
// not say whether the file or memory was at fault.

#include <webp/demux.h>

#include <algorithm>
#include <memory>

#include "decode.hpp"

namespace vitrail {

namespace {
struct Free {
  void operator()(WebPAnimDecoder* decoder) const noexcept { WebPAnimDecoderDelete(decoder); }
};
}  // namespace

Picture decode_webp(const Header& header, const std::string& name) {
  WebPAnimDecoderOptions options;
  if (WebPAnimDecoderOptionsInit(&options) == 0) throw damaged(name, "this libwebp is of another version than its headers");
  options.color_mode = MODE_RGBA;
  const WebPData data = {reinterpret_cast<const std::uint8_t*>(header.data.data()), header.data.size()};
  const std::unique_ptr<WebPAnimDecoder, Free> decoder(WebPAnimDecoderNew(&data, &options));
  WebPAnimInfo info;
  if (!decoder || WebPAnimDecoderGetInfo(decoder.get(), &info) == 0) throw damaged(name, "libwebp cannot read it");
  if (info.canvas_width != header.width || info.canvas_height != header.height) throw damaged(name, "its parts disagree on its size");
  std::uint8_t* canvas = nullptr;
  int time = 0;
  if (WebPAnimDecoderGetNext(decoder.get(), &canvas, &time) == 0) throw damaged(name, "its first frame cannot be decoded");
  Picture picture(static_cast<int>(header.height), static_cast<int>(header.width), 3);
  const std::size_t count = static_cast<std::size_t>(picture.height) * picture.width;
  for (std::size_t i = 0; i < count; ++i) std::copy_n(canvas + 4 * i, 3, picture.data.data() + 3 * i);
  return picture;
}

}  // namespace vitrail
