/* A folder of its own for a test, removed at the end; and what every test program includes. */
#ifndef CADTRAIN_TEST_SCRATCH_H
#define CADTRAIN_TEST_SCRATCH_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <cadtrain/base.h>

static char scratch_dir[64];

/* A path in the scratch folder; four may be in use at a time. */
static inline const char *in_scratch(const char *name)
{
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", scratch_dir, name);
    return path;
}

static inline int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch_dir, sizeof scratch_dir, "/tmp/cadtrain-test-XXXXXX");
    cad_clear();
    return !mkdtemp(scratch_dir);
}

static inline int drop_scratch(void **state)
{
    (void)state;
    cad_clear();
    return cad_remove_tree(scratch_dir) || cad_mem_blocks();
}

static inline void put_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void expect_content(const char *path, const char *text)
{
    char *bytes;
    size_t n;

    assert_int_equal(cad_read_file(&bytes, &n, path, 1 << 20, CAD_EDATA), CAD_OK);
    assert_string_equal(bytes, text);
    cad_free(&bytes);
}

static inline void expect_reason(const char *part)
{
    if (!strstr(cad_reason(), part)) fail_msg("expected \"%s\" in \"%s\"", part, cad_reason());
    cad_clear();
}
#endif
