/* A file system that supports few calls: a directory can't be synced (some FUSE file systems, shared folders of virtual
   machines), and fdatasync, copy_file_range and sync_file_range aren't supported. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

static int refused(int with) {
  errno = with;
  return -1;
}

int fsync(int fd) {
  static int (*real)(int);
  struct stat found;
  if (!real) real = dlsym(RTLD_NEXT, "fsync");
  if (!fstat(fd, &found) && S_ISDIR(found.st_mode)) return refused(EINVAL);
  return real(fd);
}

int fdatasync(int fd) {
  (void)fd;
  return refused(EINVAL);
}

int sync_file_range(int fd, off64_t at, off64_t count, unsigned flags) {
  (void)fd, (void)at, (void)count, (void)flags;
  return refused(EOPNOTSUPP);
}

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t count, unsigned flags) {
  (void)in, (void)in_at, (void)out, (void)out_at, (void)count, (void)flags;
  return refused(EOPNOTSUPP);
}
