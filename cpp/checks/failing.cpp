// For tests, preloaded: the N-th allocation of a question fails, alone or with all that follow it. `vitrail-parts` asks
// for it by `fail N once|on QUESTION`.

#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

namespace {

std::atomic<long> left{-1};  // allocations until one fails; negative: none will
std::atomic<bool> on{false};
std::atomic<long> failed{0};

bool fails() {
  if (left.load() < 0) return false;
  if (left.fetch_sub(1) > 0) return false;
  left.store(on.load() ? 0 : -1);
  ++failed;
  errno = ENOMEM;
  return true;
}

}  // namespace

#pragma GCC visibility push(default)

extern "C" {

void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* held, std::size_t size);

void* malloc(std::size_t size) { return fails() ? nullptr : __libc_malloc(size); }
void* calloc(std::size_t count, std::size_t size) { return fails() ? nullptr : __libc_calloc(count, size); }
void* realloc(void* held, std::size_t size) { return fails() ? nullptr : __libc_realloc(held, size); }

// Begins to count, from now; a negative number ends it. How many failed since the last time.
long vitrail_fail(long after, int all_that_follow) {
  on.store(all_that_follow != 0);
  left.store(after);
  return failed.exchange(0);
}
}

#pragma GCC visibility pop
