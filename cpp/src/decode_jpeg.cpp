// JPEG by libjpeg-turbo, asked as Pillow asks it: the accurate integer transform, smooth upsampling, no end invented.

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it before

#include <jpeglib.h>
#include <jerror.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "decode.hpp"

namespace vitrail {

namespace {

struct Errors {
  jpeg_error_mgr manager;
  std::jmp_buf leave;
  char why[JMSG_LENGTH_MAX];
};

void leave(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  info->err->format_message(info, errors->why);
  std::longjmp(errors->leave, 1);
}

void say_nothing(j_common_ptr) {}
void begin(j_decompress_ptr) {}
boolean no_more(j_decompress_ptr) { return FALSE; }  // libjpeg then stops and says so, in place of a grey rest

void skip(j_decompress_ptr info, long count) {
  const auto wanted = static_cast<std::size_t>(count < 0 ? 0 : count);
  const std::size_t skipped = wanted < info->src->bytes_in_buffer ? wanted : info->src->bytes_in_buffer;
  info->src->next_input_byte += skipped;
  info->src->bytes_in_buffer -= skipped;
}

struct Job {
  const std::uint8_t* data;
  std::size_t size;
  int width, height, components;
  std::uint8_t* out;  // (height, width, components)
};

// nullptr, or what is wrong. Nothing in here has a destructor, because libjpeg leaves it by longjmp.
const char* run(const Job& job, Errors& errors) {
  jpeg_decompress_struct info;
  jpeg_source_mgr source = {};
  const char* volatile fault = nullptr;
  info.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = leave;
  errors.manager.output_message = say_nothing;
  if (setjmp(errors.leave) != 0) {
    jpeg_destroy_decompress(&info);
    return errors.why;
  }
  jpeg_create_decompress(&info);
  source.next_input_byte = job.data;
  source.bytes_in_buffer = job.size;
  source.init_source = begin;
  source.fill_input_buffer = no_more;
  source.skip_input_data = skip;
  source.resync_to_restart = jpeg_resync_to_restart;
  source.term_source = begin;
  info.src = &source;
  int found = JPEG_HEADER_TABLES_ONLY;
  while (found == JPEG_HEADER_TABLES_ONLY) found = jpeg_read_header(&info, FALSE);
  if (found == JPEG_SUSPENDED) {
    fault = "its header is cut";
  } else {
    info.out_color_space = job.components == 1 ? JCS_GRAYSCALE : job.components == 3 ? JCS_RGB : JCS_CMYK;
    if (!jpeg_start_decompress(&info)) {
      fault = "it is cut";
    } else if (static_cast<int>(info.output_width) != job.width || static_cast<int>(info.output_height) != job.height ||
               info.output_components != job.components) {
      fault = "its parts disagree on its size";
    } else {
      for (int y = 0; y < job.height && fault == nullptr; ++y) {
        JSAMPROW row = job.out + static_cast<std::size_t>(y) * static_cast<std::size_t>(job.width * job.components);
        if (jpeg_read_scanlines(&info, &row, 1) != 1) fault = "its coded pixels are cut";
      }
      if (fault == nullptr) jpeg_finish_decompress(&info);  // what follows the last row may be cut
    }
  }
  jpeg_destroy_decompress(&info);
  return fault;
}

// What Pillow's reader of segments refuses beyond what a decoder needs.
void check_segments(std::string_view data, const std::string& name) {
  for (std::size_t at = 2; at + 4 <= data.size();) {
    const int marker = static_cast<int>(big(data, at + 1, 1));
    if (marker == 0xDA) return;
    const std::size_t size = big(data, at + 2, 2);
    const std::string_view body = data.substr(at + 4, size - 2);
    const bool jfif = marker == 0xE0 && body.substr(0, 4) == "JFIF", adobe = marker == 0xEE && body.substr(0, 5) == "Adobe";
    if ((jfif || adobe) && body.size() < 7) throw damaged(name, "a segment that names its colours is cut");
    if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && (body.size() < 6 || body.size() % 3 != 0)) {
      throw damaged(name, "a frame header is cut");
    }
    if (marker == 0xDB) {
      for (std::size_t table = 0; table < body.size();) {
        const std::size_t length = big(body, table, 1) >> 4 == 0 ? 65 : 129;
        if (body.size() - table < length) throw damaged(name, "a quantisation table is cut");
        table += length;
      }
    }
    at += 2 + size;
  }
}

// As Pillow: inverted, as Adobe stores them, then R = 255 - K - C (255 - K) / 255.
Picture from_cmyk(const Picture& inks) {
  Picture out(inks.height, inks.width, 3);
  const std::size_t count = static_cast<std::size_t>(inks.height) * inks.width;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t* ink = inks.data.data() + 4 * i;
    const int light = ink[3];
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const int product = (255 - ink[channel]) * light + 128;
      out.data[3 * i + channel] = static_cast<std::uint8_t>(std::max(light - (((product >> 8) + product) >> 8), 0));
    }
  }
  return out;
}

Picture once(std::string_view data, const Header& header, const std::string& name) {
  Picture picture(static_cast<int>(header.height), static_cast<int>(header.width), header.components);
  Errors errors;
  const Job job = {reinterpret_cast<const std::uint8_t*>(data.data()), data.size(), picture.width, picture.height, picture.channels,
                   picture.data.data()};
  if (const char* fault = run(job, errors)) {
    if (fault == errors.why && errors.manager.msg_code == JERR_OUT_OF_MEMORY) throw std::bad_alloc();
    throw damaged(name, fault);
  }
  return header.components == 4 ? from_cmyk(picture) : picture;
}

// Whether the last corner is the grey that libjpeg fills in: 128, or 64 where it came through CMYK.
bool may_be_cut(const Picture& picture) {
  const auto corner = picture.data.end() - picture.channels;
  const auto all = [&](int grey) { return std::all_of(corner, picture.data.end(), [&](int value) { return std::abs(value - grey) <= 2; }); };
  return all(128) || all(64);
}

}  // namespace

Picture decode_jpeg(const Header& header, const std::string& name) {
  check_segments(header.data, name);
  Picture picture = once(header.data, header, name);
  if (may_be_cut(picture) && once(lengthened(header.data), header, name).data != picture.data) {
    throw damaged(name, "the coded pixels end early");
  }
  return picture;
}

}  // namespace vitrail
