#include "../base/scratch.h"

#include <unistd.h>

#include "../../../src/train/keep_priv.h"

static const char *const files[] = {"adapter_config.json", "model.safetensors", "state.h5", "trainer_state.json"};

static void make_checkpoint(void)
{
    char bytes[97];

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        for (size_t k = 0; k < sizeof bytes; k++) bytes[k] = (char)(k * 7 + i);
        put_file(in_scratch(files[i]), bytes, 40 + 19 * i);
    }
    put_file(in_scratch("empty"), "", 0);
    assert_int_equal(cadp_manifest_write(scratch_dir), CAD_OK);
}

static void a_whole_checkpoint_verifies(void **state)
{
    (void)state;
    make_checkpoint();
    assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_OK);
    assert_int_equal(cadp_manifest_write(scratch_dir), CAD_OK); /* it does not list itself */
    assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_OK);
}

/* In place: a file system that flushes what is written anew would make this slow. */
static void flip(const char *name, size_t at, int bit)
{
    FILE *f = fopen(in_scratch(name), "r+b");
    int byte;

    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_true((byte = fgetc(f)) != EOF);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_true(fputc(byte ^ (1 << bit), f) != EOF);
    assert_int_equal(fclose(f), 0);
}

static size_t size_of(const char *name)
{
    char *bytes;
    size_t n;

    assert_int_equal(cad_read_file(&bytes, &n, in_scratch(name), 1 << 20, CAD_EDATA), CAD_OK);
    cad_free(&bytes);
    return n;
}

static void every_byte_of_every_file_is_covered(void **state)
{
    (void)state;
    make_checkpoint();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        for (size_t at = 0; at < 40 + 19 * i; at++) {
            flip(files[i], at, (int)(at % 8));
            assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_ECHECKPOINT);
            expect_reason(files[i]);
            flip(files[i], at, (int)(at % 8));
        }
    assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_OK);
}

static void every_byte_of_the_manifest_is_covered(void **state)
{
    size_t n;

    (void)state;
    make_checkpoint();
    n = size_of("manifest.json");
    for (size_t at = 0; at < n; at++)
        for (int bit = 0; bit < 8; bit += 3) {
            flip("manifest.json", at, bit);
            if (cadp_manifest_verify(scratch_dir) != CAD_ECHECKPOINT) fail_msg("byte %zu, bit %d", at, bit);
            cad_clear();
            flip("manifest.json", at, bit);
        }
    assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_OK);
}

static void every_truncation_is_found(void **state)
{
    char *bytes;
    size_t n;

    (void)state;
    make_checkpoint();
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "manifest.json" : "state.h5";
        assert_int_equal(cad_read_file(&bytes, &n, in_scratch(name), 1 << 20, CAD_EDATA), CAD_OK);
        for (size_t keep = n; keep-- > 0;) {
            assert_int_equal(truncate(in_scratch(name), (off_t)keep), 0);
            assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_ECHECKPOINT);
            cad_clear();
        }
        put_file(in_scratch(name), bytes, n);
        cad_free(&bytes);
    }
}

static void missing_swapped_and_linked_files_are_found(void **state)
{
    (void)state;
    make_checkpoint();
    assert_int_equal(rename(in_scratch("state.h5"), in_scratch("kept")), 0);
    assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_ECHECKPOINT);
    expect_reason("state.h5: cannot open");
    assert_int_equal(symlink("kept", in_scratch("state.h5")), 0); /* the same bytes, elsewhere */
    assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_ECHECKPOINT);
    cad_clear();
    assert_int_equal(unlink(in_scratch("state.h5")), 0);
    assert_int_equal(rename(in_scratch("trainer_state.json"), in_scratch("state.h5")), 0);
    assert_int_equal(rename(in_scratch("kept"), in_scratch("trainer_state.json")), 0);
    assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_ECHECKPOINT);
    expect_reason("bytes, found");
}

static void the_sentence_says_expected_and_found(void **state)
{
    (void)state;
    make_checkpoint();
    flip("model.safetensors", 3, 1);
    assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_ECHECKPOINT);
    assert_non_null(strstr(cad_reason(), "expected SHA-256 "));
    expect_reason("…, found ");
}

static void names_that_leave_the_folder_are_refused(void **state)
{
    static const char *const names[] = {"../../etc/passwd", "/etc/passwd", "a/b", ".", "..", ".hidden", ""};
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int n = snprintf(text, sizeof text, "{\n  \"format\": \"cadtrain-checkpoint-1\",\n  \"files\": {\n    \"%s\": {\n      \"size\": 1,\n      \"sha256\": \"%064d\"\n    }\n  }\n}\n", names[i], 0);
        put_file(in_scratch("manifest.json"), text, (size_t)n);
        assert_int_equal(cadp_manifest_verify(scratch_dir), CAD_ECHECKPOINT);
        expect_reason("expected the name of a file in this folder");
    }
}

static void no_failed_allocation_leaks(void **state)
{
    cad_status status = CAD_ERESOURCE;

    (void)state;
    make_checkpoint();
    for (int64_t nth = 1; status; nth++) {
        assert_true(nth < 1000);
        cad_mem_fail_at(nth);
        status = cadp_manifest_write(scratch_dir);
        if (!status) status = cadp_manifest_verify(scratch_dir);
        cad_mem_fail_at(0);
        cad_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_whole_checkpoint_verifies, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(every_byte_of_every_file_is_covered, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(every_byte_of_the_manifest_is_covered, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(every_truncation_is_found, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(missing_swapped_and_linked_files_are_found, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_sentence_says_expected_and_found, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(names_that_leave_the_folder_are_refused, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(no_failed_allocation_leaks, make_scratch, drop_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
