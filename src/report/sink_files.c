#include "sink_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { LONGEST_LOG = 1 << 30 };

int cadp_number_text(char out[32], const cad_number *x)
{
    if (x->integer && x->value > -9e18 && x->value < 9e18) return snprintf(out, 32, "%" PRId64, (int64_t)x->value);
    return cad_format_real(out, x->value);
}

int cadp_open_log(const char *path, int extra_flags)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | extra_flags, 0600);
}

bool cadp_write_all(int fd, const void *bytes, size_t n)
{
    const char *at = bytes;

    while (n) {
        ssize_t wrote = write(fd, at, n);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return false;
        at += wrote;
        n -= (size_t)wrote;
    }
    return true;
}

/* A line without its end is what a crash left of one. */
cad_status cadp_keep_lines(cad_str *out, const char *path, bool header, int64_t (*step_of)(const char *line, size_t n), int64_t through)
{
    char *text = NULL;
    size_t size = 0;
    cad_status status = CAD_OK;

    if (!cad_is_file(path)) return CAD_OK;
    CAD_TRY(cad_read_file(&text, &size, path, LONGEST_LOG, CAD_ERESOURCE));
    for (const char *at = text, *end; !status && (end = memchr(at, '\n', size - (size_t)(at - text))); at = end + 1) {
        size_t n = (size_t)(end + 1 - at);
        int64_t step = header ? 0 : step_of(at, n - 1);
        if (step >= 0 && step <= through) status = cad_str_add(out, at, n);
        header = false;
    }
    cad_free(&text);
    return status;
}
