#include "conf_bench.h"

#include <cadtrain/data.h>
#include <cadtrain/optim.h>

static const cadp_row *row(const char *path)
{
    int i = cadp_conf_find_path(path);
    if (i < 0) fail_msg("no row %s", path);
    return &cadp_conf_rows[i];
}

static void word_is(const char *path, const char *word, int value)
{
    for (const cadp_word *w = row(path)->words; w->word; w++)
        if (!strcmp(w->word, word)) {
            assert_int_equal(w->value, value);
            return;
        }
    fail_msg("%s lacks %s", path, word);
}

static void words_have_the_numbers_of_the_rooms_that_read_them(void **state)
{
    (void)state;
    word_is("training.lr_scheduler_type", "linear", CAD_LINEAR);
    word_is("training.lr_scheduler_type", "cosine", CAD_COSINE);
    word_is("training.lr_scheduler_type", "cosine_with_restarts", CAD_COSINE_WITH_RESTARTS);
    word_is("training.lr_scheduler_type", "polynomial", CAD_POLYNOMIAL);
    word_is("training.lr_scheduler_type", "constant", CAD_CONSTANT);
    word_is("training.lr_scheduler_type", "constant_with_warmup", CAD_CONSTANT_WITH_WARMUP);
    word_is("training.lr_scheduler_type", "inverse_sqrt", CAD_INVERSE_SQRT);
    word_is("training.lr_scheduler_type", "cosine_with_min_lr", CAD_COSINE_WITH_MIN_LR);
    word_is("training.lr_scheduler_type", "cosine_warmup_with_min_lr", CAD_COSINE_WARMUP_WITH_MIN_LR);
    assert_int_equal(CAD_COSINE, 1); /* conf_settle.c */
    assert_int_equal(CAD_COSINE_WITH_RESTARTS, 2);
    assert_int_equal(CAD_COSINE_WITH_MIN_LR, 7);
    assert_int_equal(CAD_COSINE_WARMUP_WITH_MIN_LR, 8);
    word_is("training.loss_normalization", "global", CAD_NORM_GLOBAL);
    word_is("training.loss_normalization", "hf", CAD_NORM_HF);
    word_is("training.loss_normalization", "hf_mean", CAD_NORM_HF_MEAN);
    word_is("training.log_level", "debug", CAD_LOG_DEBUG);
}

static void no_two_rows_share_a_place_a_field_or_a_key(void **state)
{
    (void)state;
    for (int i = 0; i < cadp_conf_row_count; i++)
        for (int k = i + 1; k < cadp_conf_row_count; k++) {
            const cadp_row *a = &cadp_conf_rows[i], *b = &cadp_conf_rows[k];
            assert_false(!strcmp(a->in, b->in) && !strcmp(a->key, b->key));
            assert_true(a->at != b->at || b->marks & CADP_SECOND);
        }
}

static const char *flags_seen[512];
static char flag_names[512][64];
static int flag_count;
static void collect(void *with, const char *name)
{
    (void)with;
    for (int i = 0; i < flag_count; i++)
        if (!strcmp(flags_seen[i], name)) fail_msg("two rows have the flag --%s", name);
    assert_true(flag_count < 512);
    snprintf(flag_names[flag_count], sizeof flag_names[0], "%s", name);
    flags_seen[flag_count] = flag_names[flag_count];
    flag_count++;
}

static void every_flag_names_one_row(void **state)
{
    (void)state;
    flag_count = 0;
    for (int i = 0; i < cadp_conf_row_count; i++) cadp_conf_each_flag(&cadp_conf_rows[i], collect, NULL);
    assert_true(flag_count > 90);
}

static void every_row_has_a_help_line(void **state)
{
    (void)state;
    for (int i = 0; i < cadp_conf_row_count; i++) {
        assert_non_null(cadp_conf_rows[i].help);
        assert_true(strlen(cadp_conf_rows[i].help) > 10);
    }
}

static void help_lists_every_row_and_the_commands_flags(void **state)
{
    static const cad_flag flags[] = {{.name = "checkpoint", .takes_value = true, .help = "Folder of the checkpoint."}, {0}};
    cad_str out = {0};

    (void)state;
    assert_int_equal(cad_config_help(&out, flags), CAD_OK);
    expect_in(out.data, "--checkpoint VALUE\n        Folder of the checkpoint.");
    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *r = &cadp_conf_rows[i];
        if (r->marks & CADP_HIDDEN) continue;
        expect_in(out.data, r->help);
    }
    expect_in(out.data, "--learning-rate X\n");
    expect_in(out.data, "--eval-strategy, --evaluation-strategy WORD\n");
    expect_in(out.data, "--set model.num_labels=…");
    expect_in(out.data, "one of linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup, inverse_sqrt, cosine_with_min_lr");
    cad_str_close(&out);
}

static void the_manual_page_is_the_table(void **state)
{
    cad_str out = {0};
    char *text = NULL;
    size_t size = 0;

    (void)state;
    assert_int_equal(cad_config_markdown(&out), CAD_OK);
    if (getenv("CADTRAIN_WRITE_DOCS")) {
        FILE *f = fopen("docs/options.md", "w");
        assert_non_null(f);
        fwrite(out.data, 1, out.size, f);
        fclose(f);
    }
    assert_int_equal(cad_read_file(&text, &size, "docs/options.md", 1 << 20, CAD_EUSAGE), CAD_OK);
    if (size != out.size || memcmp(text, out.data, size)) fail_msg("docs/options.md differs from the table: run this test with CADTRAIN_WRITE_DOCS=1");
    cad_free(&text);
    cad_str_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_have_the_numbers_of_the_rooms_that_read_them), cmocka_unit_test(no_two_rows_share_a_place_a_field_or_a_key),
        cmocka_unit_test(every_flag_names_one_row), cmocka_unit_test(every_row_has_a_help_line),
        cmocka_unit_test(help_lists_every_row_and_the_commands_flags), cmocka_unit_test(the_manual_page_is_the_table)};
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
