/* A disk with slow syncs: each fdatasync and fsync takes SLOW_MS longer. At the start of each, a line is appended to the
   file SYNCS_AT_ONCE: the number of syncs of this process at that moment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_int at_once;

static void take_long(void)
{
    const char *ms = getenv("SLOW_MS"), *name = getenv("SYNCS_AT_ONCE");
    int count = atomic_fetch_add(&at_once, 1) + 1;
    int fd = name ? open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) {
        dprintf(fd, "%d\n", count);
        close(fd);
    }
    if (ms)
        usleep(1000 * (useconds_t)atoi(ms));
    atomic_fetch_sub(&at_once, 1);
}

int fdatasync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    take_long();
    return next(fd);
}

int fsync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    take_long();
    return next(fd);
}
