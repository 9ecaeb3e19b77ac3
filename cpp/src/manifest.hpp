// What a bundle says about itself: manifest.json, read as strictly as vitrail/bundle/manifest.py reads it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json.hpp"
#include "policy.hpp"

namespace vitrail {

constexpr char kManifestName[] = "manifest.json";
constexpr std::size_t kManifestBytes = 16u << 20;

struct FileEntry {
  std::string name;
  std::int64_t size = 0;
  std::string sha256;
};

struct EngineEntry {  // one graph of the bundle
  std::string name, file, format, precision, input, output;
  std::string takes = "images";  // `images`: float32 (B, C, H, W), normalised; `pixels`: uint8 (B, H, W, C)
  std::int64_t batch = 0;        // 0: any
  std::int64_t top = 0;          // of how many of the best classes it gives probabilities and numbers beside the logits
  json::Object facts;
};

struct Manifest {
  std::string format, family, digest, weights;
  json::Object config;
  Policy policy;
  std::vector<std::string> classes;
  std::vector<FileEntry> files;  // by name
  std::vector<EngineEntry> engines;

  const FileEntry* file(std::string_view name) const;
};

// The manifest that `data` holds; Error V501 for every byte that is not as it was written.
Manifest read_manifest(std::string_view data);

// V501 with the usual way out.
Error bad_manifest(const std::string& what, const std::string& hint = "make the bundle again from its weights");

// The network that the config describes, as far as no architecture need be known: its family's fields, their kinds and
// ranges. Error V501.
void check_config(const std::string& family, const json::Object& config);

}  // namespace vitrail
