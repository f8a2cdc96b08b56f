#include <cadtrain/base.h>

#include <stdarg.h>
#include <stdio.h>

static struct { int rank, ranks; cad_level level; } log_ = {0, 1, CAD_LOG_INFO};
static struct { char kind[32]; int seen; } kinds[32];

void cad_log_setup(int rank, int ranks, cad_level level)
{
    log_.rank = rank;
    log_.ranks = ranks;
    log_.level = level;
}

cad_level cad_log_level(void) { return log_.level; }

CAD_PRINTF(1, 0) static void line(const char *format, va_list args)
{
    char text[2048];
    size_t n;

    vsnprintf(text, sizeof text - 1, format, args);
    n = strlen(text);
    memcpy(text + n, "\n", 2);
    cad_print(text);
}

void cad_info(const char *format, ...)
{
    va_list args;

    if (log_.rank || log_.level < CAD_LOG_INFO) return;
    va_start(args, format);
    line(format, args);
    va_end(args);
}

void cad_debug(const char *format, ...)
{
    va_list args;

    if (log_.level < CAD_LOG_DEBUG) return;
    va_start(args, format);
    line(format, args);
    va_end(args);
}

static int seen(const char *kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!kinds[i].kind[0]) snprintf(kinds[i].kind, sizeof kinds[i].kind, "%s", kind);
        if (!strncmp(kinds[i].kind, kind, sizeof kinds[i].kind - 1)) return ++kinds[i].seen;
    }
    return 1;
}

void cad_warn(const char *kind, const char *format, ...)
{
    char text[1024];
    va_list args;
    int n = seen(kind);

    if (log_.level < CAD_LOG_WARNING || n > 11) return;
    if (n == 11) {
        fprintf(stderr, "cadtrain: warning: further warnings about %s are not printed\n", kind);
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "cadtrain: warning: %s\n", text);
}

void cad_print_failure(void)
{
    char text[20480], rank[32] = "";
    const char *advice = cad_advice();
    int n;

    if (log_.ranks > 1) snprintf(rank, sizeof rank, "rank %d: ", log_.rank);
    n = snprintf(text, sizeof text, "cadtrain: error: %s%s\n", rank, cad_reason()[0] ? cad_reason() : "failed without a reason");
    if (advice[0] && n > 0 && (size_t)n < sizeof text) snprintf(text + n, sizeof text - (size_t)n, "  %s\n", advice);
    fputs(text, stderr);
    fflush(stderr);
}
