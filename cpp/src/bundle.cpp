#include "bundle.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "sha256.hpp"
#include "text.hpp"

namespace vitrail {

namespace {

constexpr std::size_t kChunk = 1 << 20;
constexpr char kCopyAgain[] = "copy or fetch the bundle again";

Error differs(const std::string& name, const std::string& expected, const std::string& found) {
  return Error("V502", "`" + name + "` is not the file of the manifest", {"expected " + expected, "found    " + found}, kCopyAgain);
}

std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  for (std::size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', start)) {
    parts.push_back(name.substr(start, slash - start));
    start = slash + 1;
  }
  parts.push_back(name.substr(start));
  const bool plain = is_printable(name) && name.find('\\') == std::string::npos &&
                     std::none_of(parts.begin(), parts.end(), [](const std::string& part) { return part.empty() || part == "." || part == ".."; });
  if (!plain) throw Error("V503", "`" + name + "` is no plain path inside the bundle", {}, "make the bundle again");
  return parts;
}

// What `name` in `folder` is, without following it. V502 where it is missing, V503 where it is a link.
void look(int folder, const std::string& part, const std::string& name) {
  struct stat status {};
  if (fstatat(folder, part.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    throw Error("V502", "`" + name + "` is missing in the bundle", {std::strerror(errno)}, "make the bundle again");
  }
  if (S_ISLNK(status.st_mode)) throw Error("V503", "`" + name + "` is a link", {}, "copy the file in its place");
}

Error not_its_own(const std::string& name) {
  return Error("V503", "`" + name + "` is no regular file of its own", {}, "copy the file in its place");
}

// `folder/name`, reached part by part without following a link below `folder`. size: -1 where it may be any.
Descriptor open_inside(const std::string& folder, const std::string& name, std::int64_t size) {
  const std::vector<std::string> parts = parts_of(name);
  Descriptor current(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (current.get() < 0) throw read_fault(errno, folder);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    look(current.get(), parts[i], name);
    const int kind = i + 1 < parts.size() ? O_DIRECTORY : O_NONBLOCK;  // a FIFO must not hang us
    Descriptor next(openat(current.get(), parts[i].c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind));
    if (next.get() < 0) {
      const int why = errno;
      if (why == ENOTDIR && i + 1 < parts.size()) throw Error("V502", "`" + name + "` is missing in the bundle", {std::strerror(why)}, "make the bundle again");
      if (why == ENXIO) throw not_its_own(name);  // a socket, or a FIFO that nobody writes
      if (why != ELOOP && why != ENOTDIR && why != ENOENT) throw read_fault(why, folder + "/" + name);
      throw Error("V503", "`" + name + "` in `" + folder + "` changed while it was opened", {}, kCopyAgain);
    }
    current = std::move(next);
  }
  struct stat status {};
  if (fstat(current.get(), &status) != 0) throw read_fault(errno, folder + "/" + name);
  if (!S_ISREG(status.st_mode) || status.st_nlink != 1) throw not_its_own(name);
  if (size >= 0 && status.st_size != size) throw differs(name, std::to_string(size) + " bytes", std::to_string(status.st_size) + " bytes");
  return current;
}

std::size_t read_at(int descriptor, char* out, std::size_t size, std::size_t at, const std::string& name) {
  while (true) {
    const ssize_t count = pread(descriptor, out, size, static_cast<off_t>(at));
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EINTR) throw read_fault(errno, name);
  }
}

// The whole file hashed; its bytes too where they are kept: those that were hashed after they were read.
std::string hashed(const Descriptor& file, const FileEntry& entry, bool keep) {
  Sha256 hash;
  std::string bytes;
  const auto size = static_cast<std::size_t>(entry.size);
  if (keep) bytes.resize(size);
  std::vector<char> chunk(keep ? 0 : std::min(kChunk, size));
  for (std::size_t done = 0; done < size;) {
    char* into = keep ? bytes.data() + done : chunk.data();
    const std::size_t count = read_at(file.get(), into, std::min(kChunk, size - done), done, entry.name);
    if (count == 0) throw differs(entry.name, std::to_string(size) + " bytes", std::to_string(done) + " bytes");
    hash.update(into, count);
    done += count;
  }
  if (const std::string found = hash.hex(); found != entry.sha256) throw differs(entry.name, entry.sha256, found);
  return bytes;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    close();
    number_ = other.number_;
    other.number_ = -1;
  }
  return *this;
}

void Descriptor::close() noexcept {
  if (number_ >= 0) ::close(number_);
  number_ = -1;
}

Manifest open_manifest(const std::string& folder) {
  struct stat status {};
  const std::string path = folder + "/" + kManifestName;
  if (lstat(path.c_str(), &status) != 0) {
    if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) throw read_fault(errno, path);
    throw bad_manifest("`" + folder + "` holds no " + kManifestName, "give the folder of a bundle");
  }
  const Descriptor file = open_inside(folder, kManifestName, -1);
  std::string data;
  std::vector<char> chunk(kChunk);
  while (data.size() <= kManifestBytes) {
    const std::size_t count = read_at(file.get(), chunk.data(), chunk.size(), data.size(), path);
    if (count == 0) break;
    data.append(chunk.data(), count);
  }
  return read_manifest(data);
}

CheckedBundle open_checked(const std::string& folder, const std::function<std::vector<std::string>(const Manifest&)>& wanted) {
  CheckedBundle bundle{folder, open_manifest(folder), {}};
  std::vector<Descriptor> opened;
  for (const auto& entry : bundle.manifest.files) opened.push_back(open_inside(folder, entry.name, entry.size));  // sizes cost nothing
  const std::vector<std::string> names = wanted(bundle.manifest);
  for (const auto& name : names) {
    if (bundle.manifest.file(name) == nullptr) throw Error("V502", "the manifest of `" + folder + "` lists no `" + name + "`", {}, kCopyAgain);
  }
  bundle.kept.resize(names.size());
  for (std::size_t i = 0; i < opened.size(); ++i) {
    const FileEntry& entry = bundle.manifest.files[i];
    const auto place = std::find(names.begin(), names.end(), entry.name) - names.begin();
    const bool keep = place < static_cast<std::ptrdiff_t>(names.size());
    std::string bytes = hashed(opened[i], entry, keep);
    if (keep) bundle.kept[static_cast<std::size_t>(place)] = std::move(bytes);
  }
  return bundle;
}

}  // namespace vitrail
