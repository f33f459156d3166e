/* A file system without hard links: exFAT, FAT, SMB without Unix extensions, many FUSE file systems (EPERM).
   NO_LINK_ERRNO=18 (EXDEV): BeeGFS and AFS between two directories, and another mount. NO_RENAMEAT2_ERRNO=22 (EINVAL):
   nor is RENAME_NOREPLACE supported. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
  const char *given = getenv("NO_LINK_ERRNO");
  (void)from_dir, (void)from, (void)to_dir, (void)to, (void)flags;
  errno = given ? atoi(given) : EPERM;
  return -1;
}

int link(const char *from, const char *to) { return linkat(0, from, 0, to, 0); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
  static int (*real)(int, const char *, int, const char *, unsigned);
  const char *given = getenv("NO_RENAMEAT2_ERRNO");
  if (given) {
    errno = atoi(given);
    return -1;
  }
  if (!real) real = dlsym(RTLD_NEXT, "renameat2");
  return real(from_dir, from, to_dir, to, flags);
}
