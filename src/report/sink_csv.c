#include "sink_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const usual[] = {"step", "epoch", "loss", "grad_norm", "learning_rate", "tokens_per_second",
                                    "mfu", "peak_bytes", "wire_bytes", "seconds"};
enum { USUAL = sizeof usual / sizeof *usual };

static int find(const cadp_csv *s, const char *name)
{
    for (int i = 0; i < s->count; i++)
        if (!strcmp(s->columns[i], name)) return i;
    return -1;
}

static cad_status add_column(cadp_csv *s, const char *name)
{
    CAD_TRY(cad_grow(&s->columns, (size_t)s->count + 1, sizeof *s->columns, "columns of metrics.csv"));
    CAD_TRY(cad_strdup(&s->columns[s->count], name));
    s->count++;
    return CAD_OK;
}

static cad_status add_header(const cadp_csv *s, cad_str *out)
{
    for (int i = 0; i < s->count; i++) CAD_TRY(cad_str_addf(out, "%s%s", i ? "," : "", s->columns[i]));
    return cad_str_add(out, "\n", 1);
}

static int64_t step_of(const char *line, size_t n)
{
    int64_t step = 0;

    if (!n || line[0] < '0' || line[0] > '9') return -1;
    for (size_t i = 0; i < n && line[i] >= '0' && line[i] <= '9' && step < INT64_MAX / 10 - 1; i++) step = 10 * step + line[i] - '0';
    return step;
}

/* Replaces the file and goes on at its end. */
static cad_status replace(cadp_csv *s, const cad_str *text)
{
    CAD_TRY(cad_write_file(s->path, text->data, text->size));
    if (s->fd >= 0) close(s->fd);
    s->fd = cadp_open_log(s->path, 0);
    return s->fd < 0 ? cad_fail(CAD_ERESOURCE, "%s: cannot open for writing: %s", s->path, strerror(errno)) : CAD_OK;
}

static cad_status read_header(cadp_csv *s, const cad_str *text)
{
    char *line = NULL, *save = NULL;
    cad_status status = CAD_OK;

    CAD_TRY(cad_strdup(&line, text->data));
    line[strcspn(line, "\r\n")] = 0;
    for (char *name = strtok_r(line, ",", &save); name && !status; name = strtok_r(NULL, ",", &save)) status = add_column(s, name);
    cad_free(&line);
    if (!status && (!s->count || strcmp(s->columns[0], "step")))
        status = cad_fail(CAD_ERESOURCE, "%s:1:1: expected a header that begins with step", s->path);
    return status;
}

static cad_status begin(cadp_csv *s, cad_str *text, bool append, int64_t through)
{
    if (append) CAD_TRY(cadp_keep_lines(text, s->path, true, step_of, through));
    if (text->size) CAD_TRY(read_header(s, text));
    else {
        for (int i = 0; i < USUAL; i++) CAD_TRY(add_column(s, usual[i]));
        CAD_TRY(add_header(s, text));
    }
    return replace(s, text);
}

cad_status cadp_csv_open(cadp_csv *s, const char *path, bool append, int64_t through)
{
    cad_str text = {0};
    cad_status status = cad_strdup(&s->path, path);

    if (!status) status = begin(s, &text, append, through);
    cad_str_close(&text);
    return status;
}

/* Older rows get as many empty cells as there are new columns. */
static cad_status widen(cadp_csv *s, int more)
{
    cad_str out = {0};
    char *old = NULL;
    size_t size = 0;
    cad_status status;

    if ((status = cad_read_file(&old, &size, s->path, (size_t)1 << 30, CAD_ERESOURCE))) goto done;
    if ((status = add_header(s, &out))) goto done;
    for (char *at = memchr(old, '\n', size), *end; at && (end = memchr(at + 1, '\n', size - (size_t)(at + 1 - old))); at = end) {
        if ((status = cad_str_add(&out, at + 1, (size_t)(end - at - 1)))) goto done;
        for (int i = 0; i < more && !status; i++) status = cad_str_add(&out, ",", 1);
        if (status || (status = cad_str_add(&out, "\n", 1))) goto done;
    }
    status = replace(s, &out);
done:
    cad_free(&old);
    cad_str_close(&out);
    return status;
}

static cad_status add_cells(const cadp_csv *s, cad_str *out, int64_t step, const cad_number *numbers, int count)
{
    CAD_TRY(cad_str_addf(out, "%" PRId64, step));
    for (int c = 1; c < s->count; c++) {
        char text[32] = "";
        for (int i = 0; i < count; i++)
            if (!strcmp(numbers[i].name, s->columns[c])) cadp_number_text(text, &numbers[i]);
        CAD_TRY(cad_str_addf(out, ",%s", text));
    }
    return cad_str_add(out, "\n", 1);
}

cad_status cadp_csv_row(cadp_csv *s, int64_t step, const cad_number *numbers, int count)
{
    cad_str row = {0};
    cad_status status;
    int had = s->count;

    for (int i = 0; i < count; i++)
        if (find(s, numbers[i].name) < 0) CAD_TRY(add_column(s, numbers[i].name));
    if (s->count > had) CAD_TRY(widen(s, s->count - had));
    status = add_cells(s, &row, step, numbers, count);
    if (!status && !cadp_write_all(s->fd, row.data, row.size))
        status = cad_fail(CAD_ERESOURCE, "%s: cannot write: %s", s->path, strerror(errno));
    cad_str_close(&row);
    return status;
}

void cadp_csv_close(cadp_csv *s)
{
    if (s->fd >= 0) close(s->fd);
    for (int i = 0; i < s->count; i++) cad_free(&s->columns[i]);
    cad_free(&s->columns);
    cad_free(&s->path);
    *s = (cadp_csv){.fd = -1};
}
