// For tests, preloaded: the N-th allocation of a question fails, or the N-th call to the disk, alone or with all that
// follow it. `vitrail-parts` asks for it by `fail N once|on QUESTION` and `break N once|on ERRNO QUESTION`.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

namespace {

// Counts calls down to the one that fails.
struct Countdown {
  std::atomic<long> left{-1};  // calls until one fails; negative: none will
  std::atomic<bool> on{false};
  std::atomic<long> failed{0};

  bool fails() {
    if (left.load() < 0 || left.fetch_sub(1) > 0) return false;
    left.store(on.load() ? 0 : -1);
    ++failed;
    return true;
  }

  long start(long after, int all_that_follow) {
    on.store(all_that_follow != 0);
    left.store(after);
    return failed.exchange(0);
  }
};

Countdown memory, disk;
std::atomic<int> why{0};  // of what the disk fails; 0: it is at its end, or does nothing

bool out_of_memory() {
  if (!memory.fails()) return false;
  errno = ENOMEM;
  return true;
}

bool broken() {
  if (!disk.fails()) return false;
  errno = why.load();
  return true;
}

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#pragma GCC visibility push(default)

extern "C" {

void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* held, std::size_t size);

void* malloc(std::size_t size) { return out_of_memory() ? nullptr : __libc_malloc(size); }
void* calloc(std::size_t count, std::size_t size) { return out_of_memory() ? nullptr : __libc_calloc(count, size); }
void* realloc(void* held, std::size_t size) { return out_of_memory() ? nullptr : __libc_realloc(held, size); }

int open(const char* path, int flags, ...) {  // ours never make a file, so there is no mode
  static const auto opened = real<int (*)(const char*, int, ...)>("open");
  return broken() ? -1 : opened(path, flags);
}

int __openat_2(int folder, const char* path, int flags) {
  static const auto opened = real<int (*)(int, const char*, int)>("__openat_2");
  return broken() ? -1 : opened(folder, path, flags);
}

int fstat(int file, struct stat* status) noexcept {
  static const auto asked = real<int (*)(int, struct stat*)>("fstat");
  return broken() ? -1 : asked(file, status);
}

int fstatat(int folder, const char* path, struct stat* status, int flags) noexcept {
  static const auto asked = real<int (*)(int, const char*, struct stat*, int)>("fstatat");
  return broken() ? -1 : asked(folder, path, status, flags);
}

ssize_t pread(int file, void* into, std::size_t size, off_t at) {
  static const auto got = real<ssize_t (*)(int, void*, std::size_t, off_t)>("pread");
  return !broken() ? got(file, into, size, at) : why.load() == 0 ? 0 : -1;
}

// Begins to count, from now; a negative number ends it. How many failed since the last time.
long vitrail_fail(long after, int all_that_follow) { return memory.start(after, all_that_follow); }

// The same of calls to the disk, which fail with this errno.
long vitrail_break(long after, int all_that_follow, int with) {
  why.store(with);
  return disk.start(after, all_that_follow);
}
}

#pragma GCC visibility pop
