#include "decode.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "bundle.hpp"

namespace vitrail {

namespace {

Error cannot_open(const std::string& path, const char* why) {
  return Error("V304", "cannot open `" + path + "`: " + why, {}, "check the path and its permissions");
}

Picture stored(const Header& header, const std::string& name) {
  switch (header.format) {
    case Format::jpeg:
      return decode_jpeg(header, name);
    case Format::png:
      return decode_png(header, name);
    case Format::webp:
      return decode_webp(header, name);
  }
  throw refused_kind(name, "an unknown format");
}

// EXIF orientation applied: 2 to 4 mirror or turn by 180 degrees, 5 to 8 also swap rows and columns.
Picture turned(Picture picture, int turn) {
  if (turn == 1) return picture;
  const bool swap = turn >= 5, mirror = turn == 2 || turn == 3 || turn == 6 || turn == 7;
  const bool flip = turn == 3 || turn == 4 || turn == 7 || turn == 8;
  Picture out(swap ? picture.width : picture.height, swap ? picture.height : picture.width, picture.channels);
  std::uint8_t* to = out.data.data();
  for (int y = 0; y < out.height; ++y) {
    const int row = flip ? out.height - 1 - y : y;
    for (int x = 0; x < out.width; ++x) {
      const int column = mirror ? out.width - 1 - x : x;
      const std::uint8_t* from = swap ? picture.row(column) + static_cast<std::ptrdiff_t>(row) * picture.channels
                                      : picture.row(row) + static_cast<std::ptrdiff_t>(column) * picture.channels;
      to = std::copy_n(from, picture.channels, to);
    }
  }
  return out;
}

}  // namespace

Picture with_channels(Picture picture, int channels, const std::string& name) {
  if (picture.channels == channels) return picture;
  if (channels != 1 && channels != 3) {
    throw refused_kind(name, std::to_string(picture.channels) + " channels where " + std::to_string(channels) + " are meant");
  }
  Picture out(picture.height, picture.width, channels);
  const std::size_t count = static_cast<std::size_t>(picture.height) * picture.width;
  for (std::size_t i = 0; i < count; ++i) {
    if (channels == 3) {
      std::fill_n(out.data.data() + 3 * i, 3, picture.data[i]);
    } else {  // Pillow's L
      const std::uint8_t* rgb = picture.data.data() + 3 * i;
      out.data[i] = static_cast<std::uint8_t>((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 32768u) >> 16);
    }
  }
  return out;
}

Picture decode(std::string_view data, const std::string& name, int channels) {
  if (data.size() > kMaxBytes) throw beyond(name, std::to_string(data.size()) + " bytes, the limit is 268435456");
  const Header header = header_of(data, name);
  if (header.width < 1 || header.height < 1) throw damaged(name, "it is " + std::to_string(header.width) + " x " + std::to_string(header.height) + " pixels");
  if (header.height > kMaxPixels / header.width) {
    throw beyond(name, std::to_string(header.width) + " x " + std::to_string(header.height) + " pixels, the limit is 89478485 in all");
  }
  return with_channels(turned(stored(header, name), header.orientation), channels, name);
}

Picture decode_file(const std::string& path, int channels) { return decode(picture_bytes(path), "`" + path + "`", channels); }

std::string picture_bytes(const std::string& path) {
  if (path.find('\0') != std::string::npos) throw cannot_open(path, "it has a NUL in it");
  const Descriptor file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));  // a FIFO must not hang the reader
  struct stat status {};
  if (file.get() < 0 || fstat(file.get(), &status) != 0) throw cannot_open(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) throw cannot_open(path, "not a regular file");
  std::string data;
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size <= kMaxBytes) {
    data.resize(size + 1);  // a byte more than there was: it may have grown meanwhile
    std::size_t done = 0;
    while (done < data.size()) {
      const ssize_t count = pread(file.get(), data.data() + done, data.size() - done, static_cast<off_t>(done));
      if (count < 0 && errno != EINTR) throw cannot_open(path, std::strerror(errno));
      if (count == 0) break;
      if (count > 0) done += static_cast<std::size_t>(count);
      if (done == data.size() && done <= kMaxBytes) data.resize(std::min(2 * done, kMaxBytes + 1));
    }
    data.resize(done);
  }
  if (size > kMaxBytes || data.size() > kMaxBytes) throw beyond("`" + path + "`", "its bytes are more than the limit of 268435456");
  return data;
}

}  // namespace vitrail
