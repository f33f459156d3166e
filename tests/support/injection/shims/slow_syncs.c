/* A disk whose syncs take long: each fdatasync and fsync takes SLOW_MS more. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void take_long(void)
{
    const char *ms = getenv("SLOW_MS");
    if (ms)
        usleep(1000 * (useconds_t)atoi(ms));
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
