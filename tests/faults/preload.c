/* Counts the file calls of this process below one folder, and kills or fails call number N.
 *
 *   cc -shared -fPIC -O2 -o preload.so preload.c -ldl      LD_PRELOAD=preload.so python -m tests.faults.server ...
 *
 * The caller shares a page of memory (struct control), so that count and trace outlive a SIGKILL. A call belongs to the
 * folder when one of its paths, or the file behind its descriptor (/proc/self/fd), lies below the prefix. Reads are
 * traced, not counted. Not seen: calls that glibc makes inside itself (stdio, opendir), and mmap.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RECORDS 4096
#define PATH 248

enum kind { NOTHING, KILL, ERRNO, SHORT_ONE, SHORT_LESS };

struct record {
    char name[16];
    char path[PATH];
    char other[PATH];
};

struct control {
    long count;     /* counted calls so far */
    long hits;      /* calls that the fault changed */
    long recorded;  /* records written */
    long first_hit; /* index of the record of the first call that was changed, -1 */
    struct record records[RECORDS];
};

static struct control *control;
static char prefix[4096];
static size_t prefix_length;
static long fault_at;
static int fault_kind, fault_errno, fault_onward, pretend_sync;

void faults_arm(struct control *shared, const char *below, long at, int kind, int error, int onward) {
    strncpy(prefix, below, sizeof prefix - 1);
    prefix_length = strlen(prefix);
    fault_at = at, fault_kind = kind, fault_errno = error, fault_onward = onward;
    shared->count = shared->hits = shared->recorded = 0;
    shared->first_hit = -1;
    control = shared;
}

void faults_disarm(void) { control = NULL; }

/* fsync then returns at once: a SIGKILL loses nothing that the kernel has, so trials need no real flush. */
void faults_pretend_sync(int yes) { pretend_sync = yes; }

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int below(const char *path) {
    return !strncmp(path, prefix, prefix_length) && (path[prefix_length] == '/' || path[prefix_length] == 0);
}

static void of_descriptor(int descriptor, char *out, size_t size) {
    char link[64];
    if (descriptor == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, out, size - 1);
    out[length < 0 ? 0 : length] = 0;
}

static void of_path(int folder, const char *path, char *out, size_t size) {
    if (path[0] == '/') {
        snprintf(out, size, "%s", path);
        return;
    }
    of_descriptor(folder, out, size);
    size_t length = strlen(out);
    snprintf(out + length, size - length, "/%s", path);
}

static long note(const char *name, const char *path, const char *other) {
    long last = control->recorded - 1;
    const char *shown = below(path) ? path + prefix_length : path;
    if (!strcmp(name, "read") && last >= 0 && last < RECORDS && !strcmp(control->records[last].name, name) &&
        !strncmp(control->records[last].path, shown, PATH - 1))
        return last;
    long at = __sync_fetch_and_add(&control->recorded, 1);
    if (at < RECORDS) {
        snprintf(control->records[at].name, sizeof control->records[at].name, "%s", name);
        snprintf(control->records[at].path, PATH, "%s", shown);
        snprintf(control->records[at].other, PATH, "%s", below(other) ? other + prefix_length : other);
    }
    return at;
}

/* Counts one call. Returns what is to be done with it; a kill does not return. */
static int judge(const char *name, const char *path, const char *other, int is_write) {
    if (!control || !(below(path) || below(other)))
        return NOTHING;
    long at = note(name, path, other);
    long number = __sync_add_and_fetch(&control->count, 1);
    int is_short = fault_kind == SHORT_ONE || fault_kind == SHORT_LESS;
    if (fault_kind == NOTHING || (fault_onward ? number < fault_at : number != fault_at) || (is_short && !is_write))
        return NOTHING;
    if (control->first_hit < 0)
        control->first_hit = at;
    __sync_fetch_and_add(&control->hits, 1);
    if (fault_kind == KILL)
        kill(getpid(), SIGKILL);
    return fault_kind;
}

static int on_path(const char *name, int folder, const char *path) {
    char full[4096];
    if (!control)
        return NOTHING;
    of_path(folder, path, full, sizeof full);
    return judge(name, full, "", 0);
}

static int on_two(const char *name, int folder, const char *path, int folder2, const char *path2) {
    char full[4096], full2[4096];
    if (!control)
        return NOTHING;
    of_path(folder, path, full, sizeof full);
    of_path(folder2, path2, full2, sizeof full2);
    return judge(name, full, full2, 0);
}

static int on_descriptor(const char *name, int descriptor, int is_write) {
    char full[4096];
    if (!control)
        return NOTHING;
    of_descriptor(descriptor, full, sizeof full);
    return judge(name, full, "", is_write);
}

static void on_read(int descriptor) {
    char full[4096];
    int before = errno;
    if (control) {
        of_descriptor(descriptor, full, sizeof full);
        if (below(full))
            note("read", full, "");
    }
    errno = before;
}

#define FAIL_IF(verdict)                                                                                               \
    do {                                                                                                               \
        if ((verdict) == ERRNO) {                                                                                      \
            errno = fault_errno;                                                                                       \
            return -1;                                                                                                 \
        }                                                                                                              \
    } while (0)

static size_t cut(int verdict, size_t length) {
    if (verdict == SHORT_ONE && length > 1)
        return 1;
    return verdict == SHORT_LESS && length > 1 ? length - 1 : length;
}

#define MODE_OF(flags)                                                                                                 \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                           \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

#define OPEN(symbol)                                                                                                   \
    int symbol(const char *path, int flags, ...) {                                                                     \
        MODE_OF(flags)                                                                                                 \
        FAIL_IF(on_path("open", AT_FDCWD, path));                                                                      \
        return ((int (*)(const char *, int, ...))real(#symbol))(path, flags, mode);                                    \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(symbol)                                                                                                 \
    int symbol(int folder, const char *path, int flags, ...) {                                                         \
        MODE_OF(flags)                                                                                                 \
        FAIL_IF(on_path("open", folder, path));                                                                        \
        return ((int (*)(int, const char *, int, ...))real(#symbol))(folder, path, flags, mode);                       \
    }
OPENAT(openat)
OPENAT(openat64)

#define CREAT(symbol)                                                                                                  \
    int symbol(const char *path, mode_t mode) {                                                                        \
        FAIL_IF(on_path("open", AT_FDCWD, path));                                                                      \
        return ((int (*)(const char *, mode_t))real(#symbol))(path, mode);                                             \
    }
CREAT(creat)
CREAT(creat64)

ssize_t write(int descriptor, const void *data, size_t length) {
    int verdict = on_descriptor("write", descriptor, length > 1);
    FAIL_IF(verdict);
    return ((ssize_t(*)(int, const void *, size_t))real("write"))(descriptor, data, cut(verdict, length));
}

#define PWRITE(symbol)                                                                                                 \
    ssize_t symbol(int descriptor, const void *data, size_t length, off_t offset) {                                    \
        int verdict = on_descriptor("write", descriptor, length > 1);                                                  \
        FAIL_IF(verdict);                                                                                              \
        return ((ssize_t(*)(int, const void *, size_t, off_t))real(#symbol))(descriptor, data, cut(verdict, length),   \
                                                                            offset);                                   \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += parts[i].iov_len;
    return sum;
}

/* The first parts that hold `length` bytes; the last one shortened. */
static int shorten(const struct iovec *parts, int count, size_t length, struct iovec *out) {
    int used = 0;
    while (used < count && used < 64 && length) {
        out[used] = parts[used];
        if (out[used].iov_len > length)
            out[used].iov_len = length;
        length -= out[used++].iov_len;
    }
    return used;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    struct iovec some[64];
    size_t length = total(parts, count);
    int verdict = on_descriptor("write", descriptor, length > 1);
    ssize_t (*next)(int, const struct iovec *, int) = real("writev");
    FAIL_IF(verdict);
    if (cut(verdict, length) == length)
        return next(descriptor, parts, count);
    return next(descriptor, some, shorten(parts, count, cut(verdict, length), some));
}

#define PWRITEV(symbol)                                                                                                \
    ssize_t symbol(int descriptor, const struct iovec *parts, int count, off_t offset) {                               \
        struct iovec some[64];                                                                                         \
        size_t length = total(parts, count);                                                                           \
        int verdict = on_descriptor("write", descriptor, length > 1);                                                  \
        ssize_t (*next)(int, const struct iovec *, int, off_t) = real(#symbol);                                        \
        FAIL_IF(verdict);                                                                                              \
        if (cut(verdict, length) == length)                                                                            \
            return next(descriptor, parts, count, offset);                                                             \
        return next(descriptor, some, shorten(parts, count, cut(verdict, length), some), offset);                      \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define SYNC(symbol)                                                                                                   \
    int symbol(int descriptor) {                                                                                       \
        FAIL_IF(on_descriptor("fsync", descriptor, 0));                                                                \
        return pretend_sync ? 0 : ((int (*)(int))real(#symbol))(descriptor);                                           \
    }
SYNC(fsync)
SYNC(fdatasync)

int close(int descriptor) {
    int verdict = on_descriptor("close", descriptor, 0);
    int result = ((int (*)(int))real("close"))(descriptor); /* Linux closes it whatever it returns */
    FAIL_IF(verdict);
    return result;
}

int rename(const char *path, const char *path2) {
    FAIL_IF(on_two("rename", AT_FDCWD, path, AT_FDCWD, path2));
    return ((int (*)(const char *, const char *))real("rename"))(path, path2);
}

int renameat(int folder, const char *path, int folder2, const char *path2) {
    FAIL_IF(on_two("rename", folder, path, folder2, path2));
    return ((int (*)(int, const char *, int, const char *))real("renameat"))(folder, path, folder2, path2);
}

int renameat2(int folder, const char *path, int folder2, const char *path2, unsigned flags) {
    FAIL_IF(on_two("rename", folder, path, folder2, path2));
    return ((int (*)(int, const char *, int, const char *, unsigned))real("renameat2"))(folder, path, folder2, path2,
                                                                                         flags);
}

int link(const char *path, const char *path2) {
    FAIL_IF(on_two("link", AT_FDCWD, path, AT_FDCWD, path2));
    return ((int (*)(const char *, const char *))real("link"))(path, path2);
}

int linkat(int folder, const char *path, int folder2, const char *path2, int flags) {
    FAIL_IF(on_two("link", folder, path, folder2, path2));
    return ((int (*)(int, const char *, int, const char *, int))real("linkat"))(folder, path, folder2, path2, flags);
}

int symlink(const char *target, const char *path) {
    FAIL_IF(on_path("symlink", AT_FDCWD, path));
    return ((int (*)(const char *, const char *))real("symlink"))(target, path);
}

int symlinkat(const char *target, int folder, const char *path) {
    FAIL_IF(on_path("symlink", folder, path));
    return ((int (*)(const char *, int, const char *))real("symlinkat"))(target, folder, path);
}

int unlink(const char *path) {
    FAIL_IF(on_path("unlink", AT_FDCWD, path));
    return ((int (*)(const char *))real("unlink"))(path);
}

int unlinkat(int folder, const char *path, int flags) {
    FAIL_IF(on_path(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, path));
    return ((int (*)(int, const char *, int))real("unlinkat"))(folder, path, flags);
}

int rmdir(const char *path) {
    FAIL_IF(on_path("rmdir", AT_FDCWD, path));
    return ((int (*)(const char *))real("rmdir"))(path);
}

int mkdir(const char *path, mode_t mode) {
    FAIL_IF(on_path("mkdir", AT_FDCWD, path));
    return ((int (*)(const char *, mode_t))real("mkdir"))(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    FAIL_IF(on_path("mkdir", folder, path));
    return ((int (*)(int, const char *, mode_t))real("mkdirat"))(folder, path, mode);
}

#define TRUNCATE(symbol)                                                                                               \
    int symbol(int descriptor, off_t length) {                                                                         \
        FAIL_IF(on_descriptor("truncate", descriptor, 0));                                                             \
        return ((int (*)(int, off_t))real(#symbol))(descriptor, length);                                               \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SENDFILE(symbol)                                                                                               \
    ssize_t symbol(int to, int from, off_t *offset, size_t length) {                                                   \
        FAIL_IF(on_descriptor("write", to, 0));                                                                        \
        return ((ssize_t(*)(int, int, off_t *, size_t))real(#symbol))(to, from, offset, length);                       \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)

ssize_t copy_file_range(int from, off_t *at, int to, off_t *at2, size_t length, unsigned flags) {
    FAIL_IF(on_descriptor("write", to, 0));
    return ((ssize_t(*)(int, off_t *, int, off_t *, size_t, unsigned))real("copy_file_range"))(from, at, to, at2, length,
                                                                                               flags);
}

ssize_t read(int descriptor, void *data, size_t length) {
    on_read(descriptor);
    return ((ssize_t(*)(int, void *, size_t))real("read"))(descriptor, data, length);
}

#define PREAD(symbol)                                                                                                  \
    ssize_t symbol(int descriptor, void *data, size_t length, off_t offset) {                                          \
        on_read(descriptor);                                                                                           \
        return ((ssize_t(*)(int, void *, size_t, off_t))real(#symbol))(descriptor, data, length, offset);              \
    }
PREAD(pread)
PREAD(pread64)

#define PREADV(symbol)                                                                                                 \
    ssize_t symbol(int descriptor, const struct iovec *parts, int count, off_t offset) {                               \
        on_read(descriptor);                                                                                           \
        return ((ssize_t(*)(int, const struct iovec *, int, off_t))real(#symbol))(descriptor, parts, count, offset);   \
    }
PREADV(preadv)
PREADV(preadv64)
