/* For LD_PRELOAD: file systems that refuse what REFUSE lists, as Lustre, NFS, CIFS, FUSE and exFAT do.
   REFUSE holds words: flock (ENOSYS), fchmod (EPERM), folder (fsync of a folder: EINVAL), fsync (of a file: EIO),
   stale:TEXT (opening a path that contains TEXT: ESTALE). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int refused(const char *word) {
  const char *list = getenv("REFUSE");
  return list && strstr(list, word);
}

int flock(int file, int operation) {
  if (refused("flock")) { errno = ENOSYS; return -1; }
  return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(file, operation);
}

int fchmod(int file, mode_t mode) {
  if (refused("fchmod")) { errno = EPERM; return -1; }
  return ((int (*)(int, mode_t))dlsym(RTLD_NEXT, "fchmod"))(file, mode);
}

int fsync(int file) {
  struct stat facts;
  fstat(file, &facts);
  if (S_ISDIR(facts.st_mode) && refused("folder")) { errno = EINVAL; return -1; }
  if (S_ISREG(facts.st_mode) && refused("fsync")) { errno = EIO; return -1; }
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

static int stale(const char *path) {
  const char *list = getenv("REFUSE"), *word = list ? strstr(list, "stale:") : NULL;
  return word && path && strstr(path, word + strlen("stale:"));
}

#define OPEN(name)                                                                  \
  int name(const char *path, int flags, ...) {                                      \
    va_list rest;                                                                   \
    va_start(rest, flags);                                                          \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;         \
    va_end(rest);                                                                   \
    if (stale(path)) { errno = ESTALE; return -1; }                                 \
    return ((int (*)(const char *, int, mode_t))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
