#include <cadtrain/base.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whatever was there before survives every failure up to the rename; the folder is synced after it, because without that a
 * power cut brings the old name back. */

static cad_status trouble(const char *path, const char *what)
{
    return cad_fail(CAD_ERESOURCE, "%s: cannot %s: %s", path, what, strerror(errno));
}

static cad_status write_all(int fd, const char *bytes, size_t n, const char *path)
{
    while (n) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            if (!done) errno = ENOSPC;
            return trouble(path, "write");
        }
        bytes += done;
        n -= (size_t)done;
    }
    return CAD_OK;
}

static int sync_fd(int fd)
{
    int failed;

    do failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed;
}

static int set_private(int fd)
{
    int failed;

    do failed = fchmod(fd, 0600);
    while (failed && errno == EINTR);
    return failed;
}

static int move(const char *from, const char *to)
{
    int failed;

    do failed = rename(from, to);
    while (failed && errno == EINTR);
    return failed;
}

/* Some file systems have nothing to sync in a folder and say EINVAL. */
static int sync_folder_fd(int fd)
{
    return sync_fd(fd) && errno != EINVAL && errno != ENOTSUP ? -1 : 0;
}

/* The folder part of a path, "." when it has none. */
static cad_status parent(char **out, const char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/') n--;
    while (n && path[n - 1] != '/') n--;
    while (n > 1 && path[n - 1] == '/') n--;
    CAD_TRY(cad_strdup(out, n ? path : "."));
    if (n) (*out)[n] = 0;
    return CAD_OK;
}

static cad_status sync_parent(const char *path)
{
    char *dir;

    CAD_TRY(parent(&dir, path));
    cad_status status = cad_fsync_dir(dir);
    cad_free(&dir);
    return status;
}

/* A new file beside `path`. A name that is taken (a dead run of the same process number, a planted link) is passed over. */
static cad_status open_aside(int *fd, char **name, const char *path)
{
    cad_str s = {0};
    cad_status status = CAD_OK;

    *fd = -1;
    for (int i = 0; *fd < 0 && !status && i < 100; i++) {
        s.size = 0;
        if ((status = cad_str_addf(&s, "%s.tmp-%ld-%d", path, (long)getpid(), i))) break;
        *fd = open(s.data, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (*fd < 0 && errno != EEXIST && errno != EINTR) break;
    }
    if (!status && *fd < 0) status = trouble(path, "make a file beside it");
    if (!status && (status = cad_strdup(name, s.data))) {
        close(*fd);
        unlink(s.data);
    }
    cad_str_close(&s);
    return status;
}

/* Ends what open_aside began: with CAD_OK the file takes its place, else it is removed. */
static cad_status close_aside(int fd, char **name, const char *path, cad_status status)
{
    if (!status && set_private(fd)) status = trouble(path, "set the mode");
    if (!status && sync_fd(fd)) status = trouble(path, "sync");
    if (close(fd) && !status && errno != EINTR) status = trouble(path, "close");
    if (!status && move(*name, path)) status = trouble(path, "rename onto it");
    if (status) unlink(*name);
    cad_free(name);
    return status ? status : sync_parent(path);
}

static cad_status copy_bytes(int in, int out, const char *from, const char *to)
{
    enum { PIECE = 1 << 20 };
    char *piece;
    cad_status status = cad_alloc(&piece, PIECE, 1, "a piece of a file");

    while (!status) {
        ssize_t n = read(in, piece, PIECE);
        if (!n) break;
        if (n < 0 && errno == EINTR) continue;
        status = n < 0 ? trouble(from, "read") : write_all(out, piece, (size_t)n, to);
    }
    cad_free(&piece);
    return status;
}

typedef cad_status see_entry(int dir, const char *name, const char *path);

/* Calls `see` for every name in an open folder; takes the descriptor. */
static cad_status each_entry(int fd, see_entry *see, const char *path)
{
    DIR *d = fdopendir(fd);
    struct dirent *e;
    cad_status status = CAD_OK;

    if (!d) {
        close(fd);
        return trouble(path, "list");
    }
    errno = 0;
    while (!status && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) status = see(dirfd(d), e->d_name, path);
        errno = 0;
    }
    if (!status && errno) status = trouble(path, "list");
    closedir(d);
    return status;
}

static int open_folder(int dir, const char *name)
{
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static cad_status remove_entry(int dir, const char *name, const char *path)
{
    int fd;

    if (!unlinkat(dir, name, 0) || errno == ENOENT) return CAD_OK;
    if ((fd = open_folder(dir, name)) < 0) return trouble(path, "remove what is in it");
    CAD_TRY(each_entry(fd, remove_entry, path));
    if (unlinkat(dir, name, AT_REMOVEDIR) && errno != ENOENT) return trouble(path, "remove what is in it");
    return CAD_OK;
}

static cad_status sync_entry(int dir, const char *name, const char *path)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0 && errno == ELOOP) return CAD_OK; /* a link is part of the folder, which is synced */
    if (fd < 0 || fstat(fd, &st)) {
        if (fd >= 0) close(fd);
        return trouble(path, "open what is in it");
    }
    int inner = S_ISDIR(st.st_mode) ? dup(fd) : -1;
    cad_status status = inner >= 0 ? each_entry(inner, sync_entry, path) : CAD_OK;
    if (!status && (S_ISDIR(st.st_mode) ? sync_folder_fd(fd) : sync_fd(fd))) status = trouble(path, "sync what is in it");
    close(fd);
    return status;
}

cad_status cad_write_file(const char *path, const void *bytes, size_t n)
{
    char *name;
    int fd;

    CAD_TRY(open_aside(&fd, &name, path));
    return close_aside(fd, &name, path, write_all(fd, bytes, n, path));
}

cad_status cad_copy_file(const char *from, const char *to)
{
    char *name;
    int out, in = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (in < 0) return trouble(from, "open");
    if (fstat(in, &st) || !S_ISREG(st.st_mode)) {
        close(in);
        return cad_fail(CAD_ERESOURCE, "%s: expected a regular file to copy", from);
    }
    cad_status status = open_aside(&out, &name, to);
    if (!status) status = close_aside(out, &name, to, copy_bytes(in, out, from, to));
    close(in);
    return status;
}

cad_status cad_remove_tree(const char *path)
{
    char *plain;
    struct stat st;
    size_t n = strlen(path);
    cad_status status;

    CAD_TRY(cad_strdup(&plain, path));
    while (n > 1 && plain[n - 1] == '/') plain[--n] = 0; /* "link/" would be followed */
    if (lstat(plain, &st)) status = errno == ENOENT ? CAD_OK : trouble(path, "remove");
    else if (!S_ISDIR(st.st_mode)) status = cad_fail(CAD_ERESOURCE, "%s: expected a folder to remove", path);
    else status = remove_entry(AT_FDCWD, plain, path);
    cad_free(&plain);
    return status;
}

cad_status cad_fsync_dir(const char *path)
{
    int fd;

    do fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return trouble(path, "open the folder");
    cad_status status = sync_folder_fd(fd) ? trouble(path, "sync the folder") : CAD_OK;
    close(fd);
    return status;
}

cad_status cad_publish_dir(const char *from, const char *to)
{
    if (!cad_is_dir(from)) return cad_fail(CAD_ERESOURCE, "%s: expected a folder to publish", from);
    CAD_TRY(sync_entry(AT_FDCWD, from, from));
    if (move(from, to)) return trouble(to, "rename the finished folder onto it");
    return sync_parent(to);
}
