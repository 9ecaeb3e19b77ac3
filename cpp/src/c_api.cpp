// The C interface: every exception of the library ends here, as a number and a text.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "model.hpp"
#include "vitrail.h"

struct vitrail_model {
  vitrail::Model model;
};

namespace {

using vitrail::Error;
using vitrail::Model;
using vitrail::Picture;

int told(vitrail_error* error, int exit_code, const char* code, const char* text) noexcept {
  if (error != nullptr) {
    *error = {};
    error->exit_code = exit_code;
    std::strncpy(error->code, code, sizeof error->code - 1);
    std::strncpy(error->text, text, sizeof error->text - 1);
  }
  return exit_code;
}

template <class Call>
int guarded(vitrail_error* error, Call call) noexcept {
  try {
    call();
    return told(error, 0, "", "");
  } catch (const Error& fault) {
    return told(error, fault.exit_code(), fault.code().c_str(), fault.what());
  } catch (const std::bad_alloc&) {
    return told(error, 4, "V703", "error[V703]: not enough memory\n\nhint: close other programs");
  } catch (const std::exception& fault) {
    return told(error, 70, "", fault.what());
  } catch (...) {
    return told(error, 70, "", "an error without a name");
  }
}

void need(bool holds, const char* what) {
  if (!holds) throw Error("V007", what, {}, "see vitrail.h");
}

std::size_t classes_of(const vitrail_model* model) { return model->model.manifest().classes.size(); }

void answer(const Model& model, const vitrail::Batch& batch, const std::string& name, float* logits) {
  const std::vector<float> found = model.logits(batch);
  vitrail::check_logits(found, name);
  std::copy(found.begin(), found.end(), logits);
}

void classify(const vitrail_model* model, const Picture& stored, const std::string& name, float* logits) {
  vitrail::Batch batch = model->model.batch();
  batch.add(model->model.manifest().policy.pixels(stored, name));
  answer(model->model, batch, name, logits);
}

}  // namespace

const char* vitrail_version(void) { return VITRAIL_VERSION; }

int vitrail_open(const char* folder, const vitrail_options* options, vitrail_model** model, vitrail_error* error) {
  return guarded(error, [&] {
    need(folder != nullptr && model != nullptr, "vitrail_open is given no folder, or no place for the model");
    *model = nullptr;
    const vitrail_options given = options == nullptr ? vitrail_options{} : *options;
    need(given.threads >= 0 && given.threads <= 1024, "threads are not 0 to 1024");
    need(given.batch >= 0 && given.batch <= 65536, "batch is not 0 to 65536");
    need(given.trust == 0 || given.trust == 1, "trust is neither 0 nor 1");
    const vitrail::RunnerOptions how = {given.threads, given.precision == nullptr ? "" : given.precision, given.trust != 0, given.batch == 0 ? 1 : given.batch};
    *model = new vitrail_model{Model(folder, given.engine == nullptr ? "auto" : given.engine, how)};
  });
}

void vitrail_close(vitrail_model* model) { delete model; }

size_t vitrail_class_count(const vitrail_model* model) { return classes_of(model); }

const char* vitrail_class_name(const vitrail_model* model, size_t place) {
  return place < classes_of(model) ? model->model.manifest().classes[place].c_str() : nullptr;
}

vitrail_shape vitrail_input_shape(const vitrail_model* model) {
  const vitrail::Policy& policy = model->model.manifest().policy;
  return {policy.channels(), policy.height, policy.width};
}

int vitrail_classify_file(const vitrail_model* model, const char* path, float* logits, size_t count, vitrail_error* error) {
  return guarded(error, [&] {
    need(model != nullptr && path != nullptr && logits != nullptr && count == classes_of(model), "one logit for each class is needed");
    const std::string name = "`" + std::string(path) + "`";
    classify(model, vitrail::decode_file(path, model->model.manifest().policy.channels()), name, logits);
  });
}

int vitrail_classify_bytes(const vitrail_model* model, const void* data, size_t size, float* logits, size_t count, vitrail_error* error) {
  return guarded(error, [&] {
    need(model != nullptr && (data != nullptr || size == 0) && logits != nullptr && count == classes_of(model), "one logit for each class is needed");
    const std::string name = "picture of " + std::to_string(size) + " bytes";
    const std::string_view bytes(static_cast<const char*>(data), size);
    classify(model, vitrail::decode(bytes, name, model->model.manifest().policy.channels()), name, logits);
  });
}

int vitrail_classify_pixels(const vitrail_model* model, const uint8_t* pixels, vitrail_shape shape, float* logits, size_t count,
                            vitrail_error* error) {
  return guarded(error, [&] {
    need(model != nullptr && pixels != nullptr && logits != nullptr && count == classes_of(model), "one logit for each class is needed");
    const int channels = model->model.manifest().policy.channels();
    const std::string name = "array (" + std::to_string(shape.height) + ", " + std::to_string(shape.width) + ", " + std::to_string(shape.channels) + ")";
    if (shape.height < 1 || shape.width < 1 || (shape.channels != 1 && shape.channels != 3 && shape.channels != channels)) {
      throw vitrail::refused_kind(name, "it must be (H, W, 1) or (H, W, 3)");
    }
    if (shape.height > vitrail::kMaxPixels / shape.width) throw vitrail::beyond(name, "the limit is 89478485 pixels in all");
    Picture stored(shape.height, shape.width, shape.channels);
    std::copy_n(pixels, stored.data.size(), stored.data.begin());
    classify(model, vitrail::with_channels(std::move(stored), channels, name), name, logits);
  });
}

int vitrail_logits(const vitrail_model* model, const float* images, size_t batch, float* logits, size_t count, vitrail_error* error) {
  return guarded(error, [&] {
    need(model != nullptr && images != nullptr && logits != nullptr, "no model, images or room for logits");
    need(batch >= 1 && batch <= 65536 && count == batch * classes_of(model), "1 to 65536 pictures, and a logit for each and each class, are needed");
    vitrail::Batch all = model->model.batch();
    all.add_images(images, static_cast<std::int64_t>(batch));
    answer(model->model, all, "a batch", logits);
  });
}

void vitrail_softmax(const float* logits, double* probabilities, size_t count) {
  if (count == 0) return;
  const float most = *std::max_element(logits, logits + count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += probabilities[i] = std::exp(static_cast<double>(logits[i]) - static_cast<double>(most));
  for (size_t i = 0; i < count; ++i) probabilities[i] /= sum;
}
