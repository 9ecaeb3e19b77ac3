// Opening a bundle: every listed file is measured and hashed, through descriptors that stay open, before any use.
// Files are read by pread alone, never mapped: one that shrinks or is replaced meanwhile gives a refusal, no signal.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace vitrail {

class Descriptor {  // of an open file, closed at the end
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.number_) { other.number_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(); }
  int get() const { return number_; }

 private:
  void close() noexcept;
  int number_;
};

struct CheckedBundle {
  std::string folder;
  Manifest manifest;
  std::vector<std::string> kept;  // bytes of the files that were wanted, those that were hashed
};

// The manifest alone, checked against its digest. Error V501; V503 where it is a link; V702 where it may not be read.
Manifest open_manifest(const std::string& folder);

// The bundle in `folder`, every byte of it checked against its manifest. `wanted` names, of a manifest, the files whose
// bytes are to be kept. Files that the manifest does not list are ignored.
// Error V501 for the manifest, V502 for a missing or different file, V503 for a path that leads out, V702.
CheckedBundle open_checked(const std::string& folder, const std::function<std::vector<std::string>(const Manifest&)>& wanted);

}  // namespace vitrail
