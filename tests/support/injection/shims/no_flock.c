/* A file system without locks: Lustre mounted without -o flock (ENOSYS). NO_FLOCK_ERRNO=37 (ENOLCK): NFS with a server
   without a lock daemon. */
#include <errno.h>
#include <stdlib.h>

int flock(int fd, int op) {
  const char *given = getenv("NO_FLOCK_ERRNO");
  (void)fd, (void)op;
  errno = given ? atoi(given) : ENOSYS;
  return -1;
}
