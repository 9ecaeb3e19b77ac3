// The C interface for C++: what is opened is closed, what fails throws. Nothing to link beyond vitrail.h's library.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "vitrail.h"

namespace vitrail_cpp {

class Failure : public std::runtime_error {
 public:
  explicit Failure(const vitrail_error& error) : std::runtime_error(error.text), code_(error.code), exit_code_(error.exit_code) {}
  const std::string& code() const noexcept { return code_; }
  int exit_code() const noexcept { return exit_code_; }

 private:
  std::string code_;
  int exit_code_;
};

// A bundle on an engine. Several threads may ask one model at once.
class Model {
 public:
  explicit Model(const std::string& folder, const vitrail_options& options = {}) {
    vitrail_model* opened = nullptr;
    check([&](vitrail_error* error) { return vitrail_open(folder.c_str(), &options, &opened, error); });
    model_.reset(opened);
  }

  std::vector<std::string> classes() const {
    std::vector<std::string> names;
    for (std::size_t place = 0; place < size(); ++place) names.emplace_back(vitrail_class_name(model_.get(), place));
    return names;
  }

  vitrail_shape input() const { return vitrail_input_shape(model_.get()); }

  std::vector<float> classify_file(const std::string& path) const {
    return filled(size(), [&](float* out, vitrail_error* error) { return vitrail_classify_file(model_.get(), path.c_str(), out, size(), error); });
  }

  std::vector<float> classify_bytes(const void* data, std::size_t count) const {
    return filled(size(), [&](float* out, vitrail_error* error) { return vitrail_classify_bytes(model_.get(), data, count, out, size(), error); });
  }

  std::vector<float> classify_pixels(const std::uint8_t* pixels, vitrail_shape shape) const {
    return filled(size(), [&](float* out, vitrail_error* error) { return vitrail_classify_pixels(model_.get(), pixels, shape, out, size(), error); });
  }

  // images: (batch, C, H, W), normalised.
  std::vector<float> logits(const std::vector<float>& images, std::size_t batch) const {
    const vitrail_shape one = input();
    if (images.size() != batch * static_cast<std::size_t>(one.channels) * one.height * one.width) {
      throw std::invalid_argument("images are not batch x channels x height x width");
    }
    return filled(batch * size(), [&](float* out, vitrail_error* error) {
      return vitrail_logits(model_.get(), images.data(), batch, out, batch * size(), error);
    });
  }

 private:
  template <class Call>
  static void check(Call call) {
    vitrail_error error;
    if (call(&error) != 0) throw Failure(error);
  }

  template <class Call>
  static std::vector<float> filled(std::size_t count, Call call) {
    std::vector<float> out(count);
    check([&](vitrail_error* error) { return call(out.data(), error); });
    return out;
  }

  std::size_t size() const { return vitrail_class_count(model_.get()); }

  struct Close {
    void operator()(vitrail_model* model) const noexcept { vitrail_close(model); }
  };
  std::unique_ptr<vitrail_model, Close> model_;
};

}  // namespace vitrail_cpp
