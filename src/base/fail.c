#include <cadtrain/base.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local char reason[16384]; /* a configuration names all its mistakes at once */
static _Thread_local char advice[1024];
static _Thread_local int advice_lines;

cad_status cad_fail(cad_status status, const char *format, ...)
{
    if (!reason[0]) { /* the innermost caller knows most, so the first reason stays */
        va_list args;
        va_start(args, format);
        vsnprintf(reason, sizeof reason, format, args);
        va_end(args);
    }
    return status;
}

void cad_advise(const char *format, ...)
{
    size_t used = strlen(advice);
    va_list args;

    if (advice_lines >= 2 || used + 2 >= sizeof advice) return;
    if (advice_lines++) advice[used++] = '\n';
    va_start(args, format);
    vsnprintf(advice + used, sizeof advice - used, format, args);
    va_end(args);
}

const char *cad_reason(void) { return reason; }
const char *cad_advice(void) { return advice; }

void cad_clear(void)
{
    reason[0] = advice[0] = 0;
    advice_lines = 0;
}

void cad_broken(const char *what, const char *file, int line)
{
    fprintf(stderr, "cadtrain: broken: %s (%s:%d)\n", what, file, line);
    abort();
}
