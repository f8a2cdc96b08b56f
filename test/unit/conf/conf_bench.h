/* What the tests of conf share: files in a scratch folder, and opening a configuration from words. */
#ifndef CONF_BENCH_H
#define CONF_BENCH_H
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../src/conf/conf_priv.h"

static char scratch[64];

static inline int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/conf.XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int drop_scratch(void **state)
{
    (void)state;
    return cad_remove_tree(scratch) || cad_mem_blocks() != 0;
}

static inline const char *file(const char *name, const char *text)
{
    static char paths[8][128];
    static int next;
    char *path = paths[next++ % 8];
    FILE *f;

    snprintf(path, sizeof paths[0], "%s/%s", scratch, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

/* Words up to NULL, without the command. */
static inline cad_config *opened(const char *first, ...)
{
    cad_config *c = NULL;
    char *argv[64];
    int argc = 0;
    va_list args;

    va_start(args, first);
    for (const char *a = first; a; a = va_arg(args, const char *)) argv[argc++] = (char *)(uintptr_t)a;
    va_end(args);
    cad_clear();
    if (cad_config_open(&c, argc, argv, NULL, false)) fail_msg("%s", cad_reason());
    return c;
}

static inline const char *refused(const char *first, ...)
{
    cad_config *c = NULL;
    char *argv[64];
    int argc = 0;
    va_list args;

    va_start(args, first);
    for (const char *a = first; a; a = va_arg(args, const char *)) argv[argc++] = (char *)(uintptr_t)a;
    va_end(args);
    cad_clear();
    assert_int_equal(cad_config_open(&c, argc, argv, NULL, false), CAD_EUSAGE);
    assert_null(c);
    return cad_reason();
}

static inline void expect_in(const char *text, const char *part)
{
    if (!strstr(text, part)) fail_msg("expected \"%s\" in:\n%s", part, text);
}

static inline void expect_not_in(const char *text, const char *part)
{
    if (strstr(text, part)) fail_msg("expected no \"%s\" in:\n%s", part, text);
}
#endif
