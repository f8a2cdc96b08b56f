#include "scratch.h"

static void what_was_set_is_found(void **state)
{
    cad_map *m;
    char key[32];
    int64_t v;
    bool had;

    (void)state;
    assert_int_equal(cad_map_open(&m), CAD_OK);
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        assert_int_equal(cad_map_set(m, key, strlen(key), i, &had), CAD_OK);
        assert_false(had);
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        assert_true(cad_map_get(m, key, strlen(key), &v));
        assert_int_equal(v, i);
    }
    assert_false(cad_map_get(m, "key", 3, &v));
    cad_map_close(&m);
    cad_map_close(&m);
}

static void a_second_value_replaces_the_first(void **state)
{
    cad_map *m;
    int64_t v;
    bool had;

    (void)state;
    assert_int_equal(cad_map_open(&m), CAD_OK);
    assert_int_equal(cad_map_set(m, "a", 1, 1, NULL), CAD_OK);
    assert_int_equal(cad_map_set(m, "a", 1, 2, &had), CAD_OK);
    assert_true(had);
    assert_true(cad_map_get(m, "a", 1, &v));
    assert_int_equal(v, 2);
    assert_true(cad_map_get(m, "a", 1, NULL));
    cad_map_close(&m);
}

static void keys_may_be_empty_or_hold_a_nul(void **state)
{
    cad_map *m;
    int64_t v;

    (void)state;
    assert_int_equal(cad_map_open(&m), CAD_OK);
    assert_false(cad_map_get(m, "", 0, &v));
    assert_int_equal(cad_map_set(m, "", 0, 1, NULL), CAD_OK);
    assert_int_equal(cad_map_set(m, "a\0b", 3, 2, NULL), CAD_OK);
    assert_int_equal(cad_map_set(m, "a\0c", 3, 3, NULL), CAD_OK);
    assert_true(cad_map_get(m, "", 0, &v) && v == 1);
    assert_true(cad_map_get(m, "a\0b", 3, &v) && v == 2);
    assert_false(cad_map_get(m, "a", 1, &v));
    cad_map_close(&m);
}

static void no_failed_allocation_leaks_or_loses_a_key(void **state)
{
    char key[32];
    int64_t v;

    (void)state;
    for (int nth = 1; nth < 20; nth++) {
        cad_map *m = NULL;
        int set = 0;
        cad_mem_fail_at(nth);
        cad_status status = cad_map_open(&m);
        for (int i = 0; i < 500 && !status; i++) {
            snprintf(key, sizeof key, "key %d", i);
            status = cad_map_set(m, key, strlen(key), i, NULL);
            set += !status;
        }
        cad_mem_fail_at(0);
        for (int i = 0; i < set; i++) {
            snprintf(key, sizeof key, "key %d", i);
            assert_true(cad_map_get(m, key, strlen(key), &v) && v == i);
        }
        cad_map_close(&m);
        assert_int_equal(cad_mem_blocks(), 0);
        cad_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_set_is_found),
        cmocka_unit_test(a_second_value_replaces_the_first),
        cmocka_unit_test(keys_may_be_empty_or_hold_a_nul),
        cmocka_unit_test(no_failed_allocation_leaks_or_loses_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
