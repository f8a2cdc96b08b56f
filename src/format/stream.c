#include <cadtrain/format.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* zlib passes bytes that are not packed through as they are. */
struct cad_stream { gzFile file; char *path; cad_status kind; bool ended; };

static cad_status trouble(const cad_stream *s)
{
    int code = Z_OK;
    const char *why = gzerror(s->file, &code);

    if (code == Z_BUF_ERROR) return cad_fail(s->kind, "%s: expected the end of the gz data, found the end of the file", s->path);
    if (code == Z_ERRNO) return cad_fail(s->kind, "%s: cannot read: %s", s->path, strerror(errno));
    if (code == Z_MEM_ERROR) return cad_fail(CAD_ERESOURCE, "%s: out of memory while unpacking", s->path);
    return cad_fail(s->kind, "%s: expected gz data, found damage (%s)", s->path, why ? why : "unknown");
}

static cad_status open_file(cad_stream *s)
{
    int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0) return cad_fail(s->kind, "%s: cannot open: %s", s->path, strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return cad_fail(s->kind, "%s: expected a regular file, found %s", s->path, S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    s->file = gzdopen(fd, "rb");
    if (!s->file) {
        close(fd);
        return cad_fail(CAD_ERESOURCE, "%s: out of memory", s->path);
    }
    gzbuffer(s->file, 1 << 18);
    return CAD_OK;
}

cad_status cad_stream_open(cad_stream **out, const char *path, cad_status kind)
{
    cad_stream *s = NULL;
    cad_status st = cad_alloc(&s, 1, sizeof *s, "a stream");

    *out = NULL;
    if (!st) s->kind = kind;
    if (!st) st = cad_strdup(&s->path, path);
    if (!st) st = open_file(s);
    if (st) cad_stream_close(&s);
    *out = s;
    return st;
}

cad_status cad_stream_read(cad_stream *s, char *to, size_t room, size_t *got)
{
    *got = 0;
    while (!s->ended && *got < room) {
        size_t want = room - *got;
        int n = gzread(s->file, to + *got, (unsigned)(want < INT_MAX ? want : INT_MAX)), code;
        if (n < 0) return trouble(s);
        if (n) *got += (size_t)n;
        else {
            s->ended = true;
            gzerror(s->file, &code);
            if (code != Z_OK && code != Z_STREAM_END) return trouble(s);
        }
    }
    return CAD_OK;
}

int64_t cad_stream_at(const cad_stream *s) { return (int64_t)gzoffset(s->file); }

void cad_stream_close(cad_stream **s)
{
    if (!*s) return;
    if ((*s)->file) gzclose((*s)->file);
    cad_free(&(*s)->path);
    cad_free(s);
}
