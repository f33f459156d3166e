/* An NFS server that has forgotten the open files after a restart: each descriptor of a path with STALE_PATH that was
   opened before the file STALE_FILE got longer fails permanently, with ESTALE. STALE_ERRNO=5 (EIO): a descriptor whose
   lock was lost. A new descriptor works. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static off_t opened_at[1 << 16];

static off_t generation(void) {
  struct stat found;
  return stat(getenv("STALE_FILE"), &found) ? 0 : found.st_size;
}

static int is_stale(int fd) {
  char link[64], path[4096];
  const char *given = getenv("STALE_ERRNO");
  if (fd < 0 || fd >= 1 << 16 || opened_at[fd] == generation()) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (!strstr(path, getenv("STALE_PATH"))) return 0;
  errno = given ? atoi(given) : ESTALE;
  return 1;
}

#define OPENAT(name)                                                                   \
  int name(int dir, const char *path, int flags, ...) {                                \
    static int (*real)(int, const char *, int, ...);                                   \
    if (!real) real = dlsym(RTLD_NEXT, #name);                                         \
    va_list rest;                                                                      \
    va_start(rest, flags);                                                             \
    int fd = real(dir, path, flags, va_arg(rest, int));                                \
    va_end(rest);                                                                      \
    if (fd >= 0 && fd < 1 << 16) opened_at[fd] = generation();                         \
    return fd;                                                                         \
  }
OPENAT(openat)
OPENAT(openat64)

#define FAILS(ret, name, args, call)                                                   \
  ret name args {                                                                      \
    static ret(*real) args;                                                            \
    if (!real) real = dlsym(RTLD_NEXT, #name);                                         \
    return is_stale(fd) ? -1 : real call;                                              \
  }
FAILS(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))
FAILS(ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at))
FAILS(ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t at, int f), (fd, v, n, at, f))
FAILS(ssize_t, pwritev64v2, (int fd, const struct iovec *v, int n, off64_t at, int f), (fd, v, n, at, f))
FAILS(ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
FAILS(int, fdatasync, (int fd), (fd))
