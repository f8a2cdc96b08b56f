/* OUT/.lock: one job at a time. The lock is the kernel's, so that one whose owner died is no lock; the text in the file only names the owner. */
#include "keep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Locks of the open file, not of the process: another file descriptor of this process may be closed without losing it. */
static int try_lock(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int failed;

    do failed = fcntl(fd, F_OFD_SETLK, &whole);
    while (failed && errno == EINTR);
    return failed ? errno : 0;
}

static bool is_held(int error) { return error == EAGAIN || error == EACCES; }

static cad_status held(int fd, const char *dir)
{
    char owner[256] = "";
    ssize_t n = pread(fd, owner, sizeof owner - 1, 0);

    owner[n > 0 ? n : 0] = 0;
    owner[strcspn(owner, "\n")] = 0;
    return cad_fail(CAD_ERESOURCE, "%s: another job writes there: %s", dir, *owner ? owner : "its name is not known");
}

static int open_lock(const char *path, int flags)
{
    int fd;

    do fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* The owner before us removes the file as it leaves: then what we locked has no name any more. */
static bool still_named(int fd, const char *path)
{
    struct stat a, b;

    return !fstat(fd, &a) && !lstat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static void sign(int fd)
{
    char host[128] = "", text[256];
    const char *job = getenv("SLURM_JOB_ID");
    int n;

    (void)gethostname(host, sizeof host - 1);
    n = snprintf(text, sizeof text, "process %ld on %s%s%.40s\n", (long)getpid(), host, job ? ", Slurm job " : "", job ? job : "");
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)cad_min(n, (int)sizeof text - 1), 0) < 0) cad_debug("the lock is not signed: %s", strerror(errno));
}

static cad_status take_at(int *out, const char *path, const char *dir)
{
    for (int tries = 0; tries < 100; tries++) {
        int fd = open_lock(path, O_CREAT), error;
        cad_status status;
        if (fd < 0) return cad_fail(CAD_ERESOURCE, "%s: cannot make the lock: %s", path, strerror(errno));
        error = try_lock(fd);
        if (is_held(error)) {
            status = held(fd, dir);
            close(fd);
            return status;
        }
        if (error) cad_warn("the lock", "%s: this file system has no locks (%s): take care that no second job writes here", path, strerror(error));
        if (error || still_named(fd, path)) {
            sign(fd);
            *out = fd;
            return CAD_OK;
        }
        close(fd);
    }
    return cad_fail(CAD_ERESOURCE, "%s: cannot take the lock: it changes hands all the time", path);
}

cad_status cadp_lock_take(int *out, const char *dir)
{
    cad_str path = {0};
    cad_status status = cadp_join(&path, dir, ".lock");

    *out = -1;
    if (!status) status = take_at(out, path.data, dir);
    cad_str_close(&path);
    return status;
}

cad_status cadp_lock_probe(const char *dir)
{
    cad_str path = {0};
    int fd;
    cad_status status = cadp_join(&path, dir, ".lock");

    if (!status && (fd = open_lock(path.data, 0)) >= 0) {
        if (is_held(try_lock(fd))) status = held(fd, dir);
        close(fd);
    }
    cad_str_close(&path);
    return status;
}

void cadp_lock_release(int *lock, const char *dir)
{
    cad_str path = {0};

    if (*lock < 0) return;
    if (!cadp_join(&path, dir, ".lock") && still_named(*lock, path.data)) (void)unlink(path.data);
    cad_str_close(&path);
    close(*lock);
    *lock = -1;
}
