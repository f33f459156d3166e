/* A dead disk, or NFS server: while the file HANG_FILE exists, calls on paths that contain HANG_PATH don't return.
   HANG_CALLS: which, of "write", "sync" and "statvfs". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static int hangs(const char *call, const char *path)
{
    const char *file = getenv("HANG_FILE"), *calls = getenv("HANG_CALLS"), *part = getenv("HANG_PATH");
    return file && calls && part && strstr(calls, call) && strstr(path, part) && access(file, F_OK) == 0;
}

static void wait_for(const char *call, int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    while (hangs(call, path))
        usleep(20000);
}

#define HANG(call, result, name, parameters, arguments)                          \
    result name parameters                                                       \
    {                                                                            \
        result(*next) parameters = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        wait_for(call, fd);                                                      \
        return next arguments;                                                   \
    }

HANG("sync", int, fdatasync, (int fd), (fd))
HANG("sync", int, fsync, (int fd), (fd))
HANG("write", ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o))
HANG("write", ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o))
HANG("write", ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t o, int flags), (fd, v, n, o, flags))
HANG("write", ssize_t, pwritev64v2, (int fd, const struct iovec *v, int n, off_t o, int flags), (fd, v, n, o, flags))
HANG("write", ssize_t, pwrite, (int fd, const void *bytes, size_t n, off_t o), (fd, bytes, n, o))
HANG("write", ssize_t, pwrite64, (int fd, const void *bytes, size_t n, off_t o), (fd, bytes, n, o))
HANG("write", ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))

int statvfs(const char *path, struct statvfs *found)
{
    int (*next)(const char *, struct statvfs *) = (int (*)(const char *, struct statvfs *))dlsym(RTLD_NEXT, "statvfs");
    while (hangs("statvfs", path))
        usleep(20000);
    return next(path, found);
}

int statvfs64(const char *path, struct statvfs64 *found)
{
    int (*next)(const char *, struct statvfs64 *) =
        (int (*)(const char *, struct statvfs64 *))dlsym(RTLD_NEXT, "statvfs64");
    while (hangs("statvfs", path))
        usleep(20000);
    return next(path, found);
}
