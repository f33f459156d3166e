/* flock(2) as the Linux NFSv4 client implements it: a byte-range lock on the whole file (flock(2), "NFS details"). An
   exclusive lock needs a descriptor that is open for writing, a shared one a descriptor open for reading; else EBADF. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

int flock(int fd, int op) {
  static int (*real)(int, int);
  if (!real) real = dlsym(RTLD_NEXT, "flock");
  int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
  if (((op & LOCK_EX) && mode == O_RDONLY) || ((op & LOCK_SH) && mode == O_WRONLY)) {
    errno = EBADF;
    return -1;
  }
  return real(fd, op);
}
