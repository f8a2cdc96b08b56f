#include <cadtrain/base.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static cad_status make_dir(const char *path)
{
    if (!mkdir(path, 0700) || cad_is_dir(path)) return CAD_OK;
    return cad_fail(CAD_ERESOURCE, "%s: cannot make the folder: %s", path, strerror(errno));
}

/* EOF before `want` bytes is no failure: the file may have been cut since it was measured. */
static cad_status read_all(int fd, char *to, size_t want, size_t *got, const char *path, cad_status kind)
{
    for (*got = 0; *got < want;) {
        ssize_t n = read(fd, to + *got, want - *got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cad_fail(kind, "%s: cannot read: %s", path, strerror(errno));
        if (!n) break;
        *got += (size_t)n;
    }
    return CAD_OK;
}

/* O_NONBLOCK: a FIFO under this name must be refused, not waited for. */
static cad_status open_regular(int *out, struct stat *st, const char *path, cad_status kind)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) return cad_fail(kind, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, st) || !S_ISREG(st->st_mode)) {
        close(fd);
        return cad_fail(kind, "%s: expected a regular file, found %s", path, S_ISDIR(st->st_mode) ? "a folder" : "a device or pipe");
    }
    *out = fd;
    return CAD_OK;
}

cad_status cad_path_join(char **out, const char *dir, const char *name)
{
    cad_str s = {0};
    size_t n = strlen(dir);
    const char *between = !n || dir[n - 1] == '/' ? "" : "/";

    if (name[0] == '/') return cad_strdup(out, name);
    cad_status status = cad_str_addf(&s, "%s%s%s", dir, between, name);
    if (!status) status = cad_strdup(out, s.data);
    cad_str_close(&s);
    return status;
}

cad_status cad_mkdirs(const char *path)
{
    char *each;
    cad_status status = CAD_OK;

    if (cad_is_dir(path)) return CAD_OK;
    CAD_TRY(cad_strdup(&each, path));
    for (char *slash = strchr(each + (each[0] == '/'), '/'); slash && !status; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        status = make_dir(each);
        *slash = '/';
    }
    if (!status) status = make_dir(each);
    cad_free(&each);
    return status;
}

bool cad_is_dir(const char *path)
{
    struct stat st;

    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

bool cad_is_file(const char *path)
{
    struct stat st;

    return !stat(path, &st) && S_ISREG(st.st_mode);
}

cad_status cad_read_file(char **out, size_t *size, const char *path, size_t limit, cad_status kind)
{
    struct stat st = {0};
    char *bytes = NULL;
    int fd;
    cad_status status;

    CAD_TRY(open_regular(&fd, &st, path, kind));
    if ((uint64_t)st.st_size > limit)
        status = cad_fail(kind, "%s: expected at most %zu bytes, found %lld", path, limit, (long long)st.st_size);
    else status = cad_alloc(&bytes, (size_t)st.st_size + 1, 1, "a file");
    if (!status) status = read_all(fd, bytes, (size_t)st.st_size, size, path, kind);
    close(fd);
    if (status) {
        cad_free(&bytes);
        return status;
    }
    bytes[*size] = 0;
    *out = bytes;
    return CAD_OK;
}

cad_status cad_sha256_file(const char *path, char hex[65], cad_status kind)
{
    enum { PIECE = 1 << 20 };
    struct stat st = {0};
    cad_sha256 s;
    char *piece;
    int fd;
    size_t n = 1;
    cad_status status;

    CAD_TRY(cad_alloc(&piece, PIECE, 1, "a piece of a file"));
    if ((status = open_regular(&fd, &st, path, kind))) {
        cad_free(&piece);
        return status;
    }
    cad_sha256_begin(&s);
    while (!status && n) {
        status = read_all(fd, piece, PIECE, &n, path, kind);
        if (!status) cad_sha256_add(&s, piece, n);
    }
    cad_sha256_end(&s, hex);
    close(fd);
    cad_free(&piece);
    return status;
}

cad_status cad_need_space(const char *dir, int64_t bytes)
{
    struct statvfs fs;

    if (statvfs(dir, &fs)) return cad_fail(CAD_ERESOURCE, "%s: cannot ask for free space: %s", dir, strerror(errno));
    uint64_t left;
    if (bytes <= 0 || __builtin_mul_overflow((uint64_t)fs.f_bavail, (uint64_t)fs.f_frsize, &left) || left >= (uint64_t)bytes) return CAD_OK;
    return cad_fail(CAD_ERESOURCE, "%s: %lld bytes are needed, %llu are free", dir, (long long)bytes, (unsigned long long)left);
}

double cad_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
