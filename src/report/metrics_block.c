#include <cadtrain/report.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LONGEST = 48 };

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* As the Trainer prints them: runtimes as h:mm:ss.cc, total_flos in units of 2^30, the rest with four decimals. */
static void spell(char out[LONGEST], const cad_number *x)
{
    double v = x->value;

    if (!isfinite(v)) snprintf(out, LONGEST, "%s", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
    else if (ends_with(x->name, "_runtime") && v >= 0 && v < 1e12) {
        int64_t whole = (int64_t)v;
        snprintf(out, LONGEST, "%" PRId64 ":%02" PRId64 ":%02" PRId64 ".%02d", whole / 3600, whole / 60 % 60, whole % 60,
                 (int)((v - (double)whole) * 100));
    } else if (!strcmp(x->name, "total_flos") && fabs(v) < 0x1p93) snprintf(out, LONGEST, "%.0fGF", floor(v * 0x1p-30));
    else if (x->integer && fabs(v) < 9e18) snprintf(out, LONGEST, "%" PRId64, (int64_t)v);
    else {
        char rounded[LONGEST];
        snprintf(rounded, sizeof rounded, fabs(v) < 0.01 ? "%.4g" : fabs(v) < 1e9 ? "%.4f" : "%.10g", v);
        cad_format_real(out, strtod(rounded, NULL));
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const cad_number *const *)a)->name, (*(const cad_number *const *)b)->name);
}

void cad_print_metrics_block(const char *title, const cad_number *numbers, int count)
{
    const cad_number **sorted = NULL;
    int name_width = 0, value_width = 0;
    char text[LONGEST];

    if (cad_alloc(&sorted, (size_t)count, sizeof *sorted, "metrics block")) {
        cad_clear();
        return;
    }
    for (int i = 0; i < count; i++) {
        sorted[i] = &numbers[i];
        spell(text, &numbers[i]);
        name_width = (int)cad_max(name_width, (int64_t)strlen(numbers[i].name));
        value_width = (int)cad_max(value_width, (int64_t)strlen(text));
    }
    qsort(sorted, (size_t)count, sizeof *sorted, by_name);
    printf("***** %s metrics *****\n", title);
    for (int i = 0; i < count; i++) {
        spell(text, sorted[i]);
        printf("  %-*s = %*s\n", name_width, sorted[i]->name, value_width, text);
    }
    fflush(stdout);
    cad_free(&sorted);
}
