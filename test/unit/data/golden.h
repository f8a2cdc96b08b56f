/* Reference numbers of the Python stack; a test that needs them is skipped where they are absent. */
#ifndef CADTRAIN_TEST_GOLDEN_H
#define CADTRAIN_TEST_GOLDEN_H
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <cadtrain/format.h>

static inline const char *golden_path(const char *name, char out[1024])
{
    const char *shared = getenv("CADTRAIN_SHARED");

    snprintf(out, 1024, "%s/golden/extra/%s", shared ? shared : "../shared", name);
    return out;
}

static inline const char *need_golden(const char *name, char out[1024])
{
    if (access(golden_path(name, out), R_OK)) {
        print_message("skipped: %s is not here (CADTRAIN_SHARED)\n", out);
        skip();
    }
    return out;
}

static inline cad_tree *read_golden(const char *name)
{
    char path[1024];
    cad_tree *t;

    need_golden(name, path);
    assert_int_equal(cad_json_read(&t, path, (size_t)1 << 30, CAD_EDATA), CAD_OK);
    return t;
}

static inline int64_t int_of(const cad_node *table, const char *key)
{
    int64_t v;

    assert_true(cad_get_int(table, key, &v, INT64_MIN));
    assert_true(v != INT64_MIN);
    return v;
}

static inline double real_of(const cad_node *table, const char *key, double otherwise)
{
    double v;

    assert_true(cad_get_real(table, key, &v, otherwise));
    return v;
}

/* The numbers of a list; the caller frees. */
static inline int64_t *ints_of(const cad_node *list, int64_t *n)
{
    int64_t *v, i = 0;

    assert_non_null(list);
    assert_int_equal(list->kind, CAD_LIST);
    assert_int_equal(cad_alloc(&v, (size_t)list->children, sizeof *v, "a list"), CAD_OK);
    for (const cad_node *c = list->child; c; c = c->next) v[i++] = c->integer;
    *n = i;
    return v;
}

static inline void assert_ints_equal(const int64_t *got, int64_t count, const cad_node *list)
{
    int64_t n, *want = ints_of(list, &n);

    assert_int_equal(count, n);
    for (int64_t i = 0; i < n; i++) assert_int_equal(got[i], want[i]);
    cad_free(&want);
}

static inline const cad_node *list_at(const cad_node *list, int64_t i)
{
    const cad_node *c = list->child;

    while (c && i--) c = c->next;
    assert_non_null(c);
    return c;
}

/* Nothing allocated may be left, and no reason may be pending. */
static inline int starts_clean(void **state)
{
    (void)state;
    cad_clear();
    return 0;
}
static inline int leaves_nothing(void **state)
{
    (void)state;
    cad_clear();
    return cad_mem_blocks() != 0;
}
#define CLEAN_TEST(f) cmocka_unit_test_setup_teardown(f, starts_clean, leaves_nothing)
#endif
