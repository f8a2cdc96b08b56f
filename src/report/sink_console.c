#include "sink_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* After the losses and rates: what tells where the run is and how fast, under the short names that fit a line. */
static const struct { const char *name, *shown; double scale; } trailing[] = {
    {"epoch", "epoch", 1}, {"step", "step", 1}, {"tokens_per_second", "tok_s", 1}, {"mfu", "mfu", 1},
    {"peak_bytes", "mem_gib", 0x1p-30}, {"wire_bytes", "wire_gib", 0x1p-30}, {"seconds", "seconds", 1},
};
enum { TRAILING = sizeof trailing / sizeof *trailing };

static bool trails(const char *name)
{
    for (int i = 0; i < TRAILING; i++)
        if (!strcmp(name, trailing[i].name)) return true;
    return false;
}

/* Four significant digits, in Python's spelling. */
static void spell(char out[32], double x, bool integer)
{
    char rounded[32];

    if (isnan(x)) snprintf(out, 32, "nan");
    else if (isinf(x)) snprintf(out, 32, "%s", x > 0 ? "inf" : "-inf");
    else if (integer && fabs(x) < 9e15) snprintf(out, 32, "%.0f", x);
    else {
        snprintf(rounded, sizeof rounded, "%.4g", x);
        cad_format_real(out, strtod(rounded, NULL));
    }
}

static cad_status add(cad_str *out, const char *name, double value, bool integer)
{
    char text[32];

    spell(text, value, integer);
    return cad_str_addf(out, "%s'%s': %s", out->size > 1 ? ", " : "", name, text);
}

static cad_status add_all(cad_str *out, int64_t step, const cad_number *numbers, int count)
{
    CAD_TRY(cad_str_add(out, "{", 1));
    for (int i = 0; i < count; i++)
        if (!trails(numbers[i].name)) CAD_TRY(add(out, numbers[i].name, numbers[i].value, numbers[i].integer));
    for (int t = 0; t < TRAILING; t++) {
        if (!strcmp(trailing[t].name, "step")) {
            CAD_TRY(add(out, "step", (double)step, true));
            continue;
        }
        for (int i = 0; i < count; i++)
            if (!strcmp(numbers[i].name, trailing[t].name))
                CAD_TRY(add(out, trailing[t].shown, numbers[i].value * trailing[t].scale,
                            trailing[t].scale == 1 && (numbers[i].integer || !strcmp(trailing[t].shown, "tok_s"))));
    }
    return cad_str_add(out, "}\n", 2);
}

cad_status cadp_console_row(int64_t step, const cad_number *numbers, int count)
{
    cad_str line = {0};
    cad_status status = add_all(&line, step, numbers, count);

    if (!status && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO)) cad_print("\r\033[K"); /* a progress bar may stand there */
    if (!status) cad_print(line.data);
    cad_str_close(&line);
    return status;
}
