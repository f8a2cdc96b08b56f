/* The sinks of a run's log; shared by the files of this room only. */
#ifndef CADTRAIN_SINK_PRIV_H
#define CADTRAIN_SINK_PRIV_H
#include <cadtrain/report.h>

/* A number as JSON has it: integers without a point, NaN as Python writes it. */
int cadp_number_text(char out[32], const cad_number *x);
/* Opens for appending, 0600, never through a link; -1 with errno. */
int cadp_open_log(const char *path, int extra_flags);
/* All bytes in order; false with errno. */
bool cadp_write_all(int fd, const void *bytes, size_t n);
/* The lines of a log that a resumed run keeps: whole ones whose step (told by `step_of`, -1: not a row) is at most `through`. */
CAD_CHECKED cad_status cadp_keep_lines(cad_str *out, const char *path, bool header, int64_t (*step_of)(const char *line, size_t n), int64_t through);

typedef struct cadp_jsonl { int fd; } cadp_jsonl;
CAD_CHECKED cad_status cadp_jsonl_open(cadp_jsonl *s, const char *path, bool append, int64_t through);
CAD_CHECKED cad_status cadp_jsonl_row(cadp_jsonl *s, int64_t step, const cad_number *numbers, int count);

typedef struct cadp_csv { int fd; char *path; char **columns; int count; } cadp_csv;
CAD_CHECKED cad_status cadp_csv_open(cadp_csv *s, const char *path, bool append, int64_t through);
CAD_CHECKED cad_status cadp_csv_row(cadp_csv *s, int64_t step, const cad_number *numbers, int count);
void cadp_csv_close(cadp_csv *s);

typedef struct cadp_events { int fd; } cadp_events;
CAD_CHECKED cad_status cadp_events_open(cadp_events *s, const char *output_dir, const char *logging_dir, bool append, int64_t through);
CAD_CHECKED cad_status cadp_events_row(cadp_events *s, int64_t step, const cad_number *numbers, int count);

CAD_CHECKED cad_status cadp_console_row(int64_t step, const cad_number *numbers, int count);
#endif
