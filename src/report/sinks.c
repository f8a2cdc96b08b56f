#include "sink_priv.h"

#include <unistd.h>

struct cad_log_sinks {
    cadp_jsonl jsonl;
    cadp_csv csv;
    cadp_events events;
    bool console;
};

static void shut(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* A log that cannot be written must not cost a training run. */
static bool lost(cad_status status, const char *what)
{
    if (!status) return false;
    cad_warn(what, "%s is no longer written: %s", what, cad_reason());
    cad_clear();
    return true;
}

static cad_status open_jsonl(cadp_jsonl *s, const cad_sink_options *o, int64_t through)
{
    char *path = NULL;
    cad_status status = cad_path_join(&path, o->output_dir, "log.jsonl");

    if (!status) status = cadp_jsonl_open(s, path, o->append, through);
    cad_free(&path);
    return status;
}

static cad_status open_csv(cadp_csv *s, const cad_sink_options *o, int64_t through)
{
    char *path = NULL;
    cad_status status = cad_path_join(&path, o->output_dir, "metrics.csv");

    if (!status) status = cadp_csv_open(s, path, o->append, through);
    cad_free(&path);
    return status;
}

cad_status cad_log_sinks_open(cad_log_sinks **out, const cad_sink_options *o, int64_t keep_through_step)
{
    cad_log_sinks *s = NULL;

    CAD_TRY(cad_alloc(&s, 1, sizeof *s, "log sinks"));
    s->jsonl.fd = s->csv.fd = s->events.fd = -1;
    s->console = o->console;
    *out = s;
    if ((o->jsonl || o->csv) && lost(cad_mkdirs(o->output_dir), "the log")) return CAD_OK;
    if (o->jsonl && lost(open_jsonl(&s->jsonl, o, keep_through_step), "log.jsonl")) shut(&s->jsonl.fd);
    if (o->csv && lost(open_csv(&s->csv, o, keep_through_step), "metrics.csv")) cadp_csv_close(&s->csv);
    if (o->tensorboard && lost(cadp_events_open(&s->events, o->output_dir, o->logging_dir, o->append, keep_through_step), "the TensorBoard log"))
        shut(&s->events.fd);
    return CAD_OK;
}

void cad_log_row(cad_log_sinks *s, int64_t step, const cad_number *numbers, int count)
{
    if (!s) return;
    if (s->jsonl.fd >= 0 && lost(cadp_jsonl_row(&s->jsonl, step, numbers, count), "log.jsonl")) shut(&s->jsonl.fd);
    if (s->csv.fd >= 0 && lost(cadp_csv_row(&s->csv, step, numbers, count), "metrics.csv")) cadp_csv_close(&s->csv);
    if (s->events.fd >= 0 && lost(cadp_events_row(&s->events, step, numbers, count), "the TensorBoard log")) shut(&s->events.fd);
    if (s->console && lost(cadp_console_row(step, numbers, count), "the console")) s->console = false;
}

void cad_log_sinks_close(cad_log_sinks **s)
{
    if (!*s) return;
    shut(&(*s)->jsonl.fd);
    shut(&(*s)->events.fd);
    cadp_csv_close(&(*s)->csv);
    cad_free(s);
}
