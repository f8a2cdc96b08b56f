#include "sink_priv.h"

#include <errno.h>
#include <unistd.h>

static int64_t step_of(const char *line, size_t n)
{
    cad_tree *tree = NULL;
    int64_t step = -1;

    if (cad_json_parse(&tree, line, n, "log.jsonl", CAD_ERESOURCE))
        cad_clear();
    else if (!cad_get_int(tree->root, "step", &step, -1))
        step = -1;
    cad_tree_close(&tree);
    return step;
}

cad_status cadp_jsonl_open(cadp_jsonl *s, const char *path, bool append, int64_t through)
{
    cad_str kept = {0};
    cad_status status = append ? cadp_keep_lines(&kept, path, false, step_of, through) : CAD_OK;

    if (!status) status = cad_write_file(path, kept.data ? kept.data : "", kept.size);
    cad_str_close(&kept);
    CAD_TRY(status);
    s->fd = cadp_open_log(path, 0);
    return s->fd < 0 ? cad_fail(CAD_ERESOURCE, "%s: cannot open for writing: %s", path, strerror(errno)) : CAD_OK;
}

static cad_status write_row(cad_json *j, int64_t step, const cad_number *numbers, int count)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_int(j, "step", step));
    for (int i = 0; i < count; i++) {
        char text[32];
        if (!strcmp(numbers[i].name, "step")) continue;
        cadp_number_text(text, &numbers[i]);
        CAD_TRY(cad_json_raw(j, numbers[i].name, text));
    }
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

cad_status cadp_jsonl_row(cadp_jsonl *s, int64_t step, const cad_number *numbers, int count)
{
    cad_json j = {0};
    cad_status status = write_row(&j, step, numbers, count);

    if (!status && !cadp_write_all(s->fd, j.text.data, j.text.size))
        status = cad_fail(CAD_ERESOURCE, "log.jsonl: cannot write: %s", strerror(errno));
    cad_json_close(&j);
    return status;
}
