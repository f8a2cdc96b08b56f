#include "rows_priv.h"

#include <limits.h>
#include <zlib.h>

typedef struct inflating { z_stream z; char *in; size_t in_left; cad_str out; size_t limit; const char *path; } inflating;

static cad_status out_room(inflating *f)
{
    size_t room = f->out.room ? 2 * f->out.room : 1 << 16;

    if (f->out.size > f->limit) return cad_fail(CAD_EDATA, "%s: expected at most %zu bytes after unpacking, found more", f->path, f->limit);
    if (f->out.size + 1 < f->out.room) return CAD_OK;
    CAD_TRY(cad_grow(&f->out.data, room, 1, "an unpacked file"));
    f->out.room = room;
    return CAD_OK;
}

/* zlib counts in 32 bits. */
static int inflate_some(inflating *f)
{
    size_t in = f->in_left < UINT_MAX ? f->in_left : UINT_MAX, room = f->out.room - 1 - f->out.size;
    size_t out = room < UINT_MAX ? room : UINT_MAX;

    f->z.next_in = (Bytef *)f->in;
    f->z.avail_in = (uInt)in;
    f->z.next_out = (Bytef *)f->out.data + f->out.size;
    f->z.avail_out = (uInt)out;
    int code = inflate(&f->z, Z_NO_FLUSH);
    f->in += in - f->z.avail_in;
    f->in_left -= in - f->z.avail_in;
    f->out.size += out - f->z.avail_out;
    return code;
}

/* Members follow each other (bgzip writes thousands); what is no member is refused. */
static cad_status inflate_all(inflating *f)
{
    for (;;) {
        CAD_TRY(out_room(f));
        int code = inflate_some(f);
        if (code == Z_STREAM_END && !f->in_left) return out_room(f);
        if (code == Z_STREAM_END) code = inflateReset(&f->z);
        if (code == Z_MEM_ERROR) return cad_fail(CAD_ERESOURCE, "%s: out of memory while unpacking", f->path);
        if (code == Z_BUF_ERROR && !f->in_left) return cad_fail(CAD_EDATA, "%s: expected the end of the gz data, found the end of the file", f->path);
        if (code != Z_OK && code != Z_BUF_ERROR) return cad_fail(CAD_EDATA, "%s: expected gz data, found damage in its last %zu bytes", f->path, f->in_left);
    }
}

cad_status cadp_unpack(char **bytes, size_t *n, const char *path, size_t limit)
{
    enum { GZ_ONLY = 16 };
    inflating f = {.in = *bytes, .in_left = *n, .limit = limit, .path = path};

    if (*n < 2 || memcmp(*bytes, "\x1f\x8b", 2)) return CAD_OK;
    if (inflateInit2(&f.z, GZ_ONLY + MAX_WBITS) != Z_OK) return cad_fail(CAD_ERESOURCE, "%s: out of memory while unpacking", path);
    cad_status status = inflate_all(&f);
    inflateEnd(&f.z);
    if (status) {
        cad_str_close(&f.out);
        return status;
    }
    cad_free(bytes);
    *bytes = f.out.data;
    *n = f.out.size;
    f.out.data[f.out.size] = 0;
    return CAD_OK;
}
