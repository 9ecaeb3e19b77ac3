// A bundle on an engine: pictures in, logits out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "decode.hpp"
#include "runner.hpp"

namespace vitrail {

// Pictures made ready for the network of a manifest, one behind the other.
class Batch {
 public:
  Batch(const Manifest& manifest, const EngineEntry& entry);
  void add(const Picture& pixels);        // of the policy's size
  void add_nothing();                     // zeros, in the place of a picture that cannot be read
  void add_images(const float* images, std::int64_t count);  // normalised (C, H, W); only where the graph takes those
  void clear();
  std::int64_t count() const { return count_; }
  std::size_t bytes_each() const { return each_; }
  const void* data() const { return bytes_.data(); }
  void* place(std::int64_t count);        // room for raw inputs, which the caller fills

 private:
  std::uint8_t* next(std::int64_t count);
  const Policy& policy_;
  bool pixels_;
  std::size_t each_;
  std::int64_t count_ = 0;
  std::vector<std::uint8_t> bytes_;
};

class Model {
 public:
  // engine: a name of `runners` or `auto`, where it should be with a precision behind it (`openvino-bf16`), or a graph of
  // the bundle by its name. Error V501 to V505, V509, V003, V007.
  Model(const std::string& folder, const std::string& engine, const RunnerOptions& options);

  const Manifest& manifest() const { return manifest_; }
  const EngineEntry& entry() const { return *entry_; }
  const std::string& engine() const { return engine_; }
  const std::string& precision() const { return precision_; }  // what it computes in: f32, bf16, f16, int8
  Batch batch() const { return {manifest_, *entry_}; }

  // Logits (count, classes) of a batch, in pieces where the graph takes a fixed number. Error V505.
  std::vector<float> logits(const Batch& batch) const;

 private:
  std::string engine_, precision_;
  Manifest manifest_;
  const EngineEntry* entry_ = nullptr;  // in manifest_.engines
  std::unique_ptr<Runner> runner_;
};

std::vector<double> softmax(const float* logits, std::size_t count);      // in double
std::vector<std::size_t> best(const float* logits, std::size_t count, std::size_t top);  // of equals the first class
void check_finite(const std::vector<float>& values, const std::string& what, const std::string& hint);  // Error V811
void check_logits(const std::vector<float>& logits, const std::string& of);  // the same

}  // namespace vitrail
