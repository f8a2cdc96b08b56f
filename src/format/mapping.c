#include "st_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A link inside a model folder may not leave it. The Hugging Face cache keeps its files as links from
 * models--ORG--NAME/snapshots/REVISION to models--ORG--NAME/blobs, so there the model's own folder is the border. */
static void widen_to_cache(char *root)
{
    char *revision = strrchr(root, '/'), *snapshots, *model;

    if (!revision || revision == root) return;
    *revision = 0;
    snapshots = strrchr(root, '/');
    if (snapshots && snapshots != root && !strcmp(snapshots, "/snapshots")) {
        *snapshots = 0;
        model = strrchr(root, '/');
        if (model && !strncmp(model, "/models--", 9)) return;
        *snapshots = '/';
    }
    *revision = '/';
}

static bool lies_below(const char *path, const char *root)
{
    size_t n = strlen(root);

    return !strncmp(path, root, n) && (path[n] == '/' || (n && root[n - 1] == '/'));
}

static cad_status check_border(const char *dir, const char *path)
{
    char root[PATH_MAX], real[PATH_MAX];

    if (!realpath(dir, root) || !realpath(path, real)) return cad_fail(CAD_EMODEL, "%s: cannot open: %s", path, strerror(errno));
    widen_to_cache(root);
    if (lies_below(real, root)) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: is a link out of its folder; copy the file there or name the folder it lies in", path);
}

/* O_NONBLOCK: a pipe must not hang the open; it is no regular file. */
static cad_status map_open_file(cadp_mapping *m, int fd, const char *path, const char *what)
{
    struct stat at;

    if (fstat(fd, &at)) return cad_fail(CAD_EMODEL, "%s: cannot open: %s", path, strerror(errno));
    if (!S_ISREG(at.st_mode)) return cad_fail(CAD_EMODEL, "%s: expected a regular file", path);
    if (at.st_size < 8) return cad_fail(CAD_EMODEL, "%s: expected a %s file, found %lld bytes", path, what, (long long)at.st_size);
    m->bytes = mmap(NULL, (size_t)at.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (m->bytes == MAP_FAILED) {
        m->bytes = NULL;
        return cad_fail(CAD_ERESOURCE, "%s: cannot map %lld bytes: %s", path, (long long)at.st_size, strerror(errno));
    }
    m->size = (size_t)at.st_size;
    return CAD_OK;
}

cad_status cadp_map_file(cadp_mapping *m, const char *dir, const char *path, const char *what)
{
    cad_status status;
    int fd;

    if (dir) CAD_TRY(check_border(dir, path));
    do fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return cad_fail(CAD_EMODEL, "%s: cannot open: %s", path, strerror(errno));
    status = map_open_file(m, fd, path, what);
    close(fd);
    return status;
}

void cadp_unmap(cadp_mapping *m)
{
    if (m->bytes) munmap(m->bytes, m->size);
    *m = (cadp_mapping){0};
}
