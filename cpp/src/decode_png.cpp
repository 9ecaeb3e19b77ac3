// PNG by libpng, which inflates, undoes the filters and joins the passes; palette, depth and alpha are ours.

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <new>

#include "decode.hpp"

namespace vitrail {

namespace {

struct Source {
  const char* data;
  std::size_t left;
};

struct Rows {  // as libpng gives them: a byte a sample, 16-bit samples cut to their high byte
  Source source;
  std::uint8_t** rows;
  png_uint_32 height;
  bool interlaced;
  char why[128];
  bool no_memory;
};

constexpr int kFault = 1, kDone = 2;  // with which libpng is left early

void read(png_structp png, png_bytep out, std::size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->left) png_error(png, "it is cut");
  std::memcpy(out, source->data, count);
  source->data += count;
  source->left -= count;
}

void leave(png_structp png, png_const_charp why) {
  auto* rows = static_cast<Rows*>(png_get_error_ptr(png));
  std::strncpy(rows->why, why, sizeof rows->why - 1);
  // Behind the last row libpng looks at the rest of the coded bytes. Nobody needs it, so nothing in it is a fault.
  const bool done = rows->interlaced ? png_get_current_pass_number(png) >= 7 : png_get_current_row_number(png) >= rows->height;
  png_longjmp(png, done ? kDone : kFault);
}

void say_nothing(png_structp, png_const_charp) {}

png_voidp allocate(png_structp png, png_alloc_size_t size) {
  void* found = std::malloc(size);
  if (found == nullptr) static_cast<Rows*>(png_get_mem_ptr(png))->no_memory = true;
  return found;
}

void release(png_structp, png_voidp held) { std::free(held); }

// Whether all rows were read; `why` says else. Nothing in here has a destructor, because libpng leaves it by longjmp.
bool run(Rows& job, bool grey) {
  png_structp png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &job, leave, say_nothing, &job, allocate, release);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  if (info == nullptr) {
    png_destroy_read_struct(&png, nullptr, nullptr);
    job.no_memory = true;
    return false;
  }
  switch (setjmp(png_jmpbuf(png))) {
    case 0:
      break;
    case kDone:
      png_destroy_read_struct(&png, &info, nullptr);
      return true;
    default:
      png_destroy_read_struct(&png, &info, nullptr);
      return false;
  }
  png_set_read_fn(png, &job.source, read);
  png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);  // checked before, and some were written anew
  png_set_benign_errors(png, 1);
  png_set_user_limits(png, 0x7FFFFFFF, 0x7FFFFFFF);  // sizes were checked before
  png_read_info(png, info);
  png_set_strip_16(png);
  if (grey) {
    png_set_expand_gray_1_2_4_to_8(png);
  } else {
    png_set_packing(png);
  }
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  png_read_image(png, job.rows);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

void append_chunk(std::string& file, const char* kind, std::string_view body) {
  for (int shift = 24; shift >= 0; shift -= 8) file.push_back(static_cast<char>(body.size() >> shift));
  file += kind;
  file += body;
  file.append(4, '\0');  // its checksum, which nobody reads
}

struct Parts {
  int depth = 0, colour = 0;
  bool interlaced = false;
  std::string file;            // a plain PNG of the same pixels
  std::string_view palette;    // the bytes of PLTE, the last one
};

// The header as Pillow takes it (any interlacing but 0 is Adam7, the method of compression is not looked at), the
// palette, and the first run of coded pixels: what follows them is not looked at either.
Parts parts_of(const Header& header, const std::string& name) {
  Parts parts;
  const std::string_view data = header.data;
  parts.file = data.substr(0, 8);
  bool coded = false;
  for (std::size_t at = 8; at + 12 <= data.size();) {
    const std::size_t size = big(data, at, 4);
    const std::string_view kind = data.substr(at + 4, 4);
    std::string body(data.substr(at + 8, size));
    if (coded && kind != "IDAT") break;
    if (kind == "IHDR") {
      parts.depth = static_cast<int>(big(body, 8, 1));
      parts.colour = static_cast<int>(big(body, 9, 1));
      if (body[11] != 0) throw damaged(name, "its method of filtering is unknown");
      body[10] = 0;
      parts.interlaced = body[12] != 0;
      body[12] = parts.interlaced;
      append_chunk(parts.file, "IHDR", body);
      if (parts.colour == PNG_COLOR_TYPE_PALETTE) append_chunk(parts.file, "PLTE", std::string(3, '\0'));
    } else if (kind == "PLTE") {
      parts.palette = data.substr(at + 8, size);
      if (size > 3 * 256 + 2) throw damaged(name, "its palette has more than 256 colours");
    } else if (kind == "IDAT") {
      coded = true;
      append_chunk(parts.file, "IDAT", body);
    }
    at += 12 + size;
  }
  append_chunk(parts.file, "IEND", "");
  return parts;
}

// What each number of a palette picture means: black beyond the palette.
std::vector<std::uint8_t> colours_of(const Parts& parts) {
  std::vector<std::uint8_t> colours(3 * 256, 0);
  std::copy_n(parts.palette.begin(), std::min(parts.palette.size() / 3 * 3, colours.size()), colours.begin());
  return colours;
}

}  // namespace

Picture decode_png(const Header& header, const std::string& name) {
  const Parts parts = parts_of(header, name);
  const bool palette = parts.colour == PNG_COLOR_TYPE_PALETTE, colour = (parts.colour & PNG_COLOR_MASK_COLOR) != 0;
  const int samples = palette ? 1 : (colour ? 3 : 1) + ((parts.colour & PNG_COLOR_MASK_ALPHA) != 0 ? 1 : 0);
  const int height = static_cast<int>(header.height), width = static_cast<int>(header.width);
  const int depth = parts.depth;
  const bool known = (depth == 8) || (depth == 16 && !palette) || ((depth == 1 || depth == 2 || depth == 4) && (palette || parts.colour == 0));
  if (!known || (parts.colour > 4 && parts.colour != 6) || parts.colour == 1) throw damaged(name, "no PNG has such a depth and colour");
  Picture raw(height, width, samples);
  std::vector<std::uint8_t*> rows;
  rows.reserve(static_cast<std::size_t>(height));
  for (int y = 0; y < height; ++y) rows.push_back(raw.row(y));
  Rows job = {{parts.file.data(), parts.file.size()}, rows.data(), static_cast<png_uint_32>(height), parts.interlaced, {}, false};
  if (!run(job, parts.colour == 0)) {
    if (job.no_memory) throw std::bad_alloc();
    throw damaged(name, job.why);
  }
  if (!palette && samples == (colour ? 3 : 1)) return raw;
  Picture picture(height, width, palette || colour ? 3 : 1);
  const std::vector<std::uint8_t> colours = palette ? colours_of(parts) : std::vector<std::uint8_t>();
  std::uint8_t* to = picture.data.data();
  for (std::size_t i = 0; i < raw.data.size(); i += static_cast<std::size_t>(samples)) {
    to = std::copy_n(palette ? colours.data() + 3 * raw.data[i] : raw.data.data() + i, picture.channels, to);
  }
  return picture;
}

}  // namespace vitrail
