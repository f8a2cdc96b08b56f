#include "golden.h"

#include <cadtrain/data.h>

/* The records of a run of the Python program, read, tokenised and cut as it did. */

static void assert_row(const cad_dataset *d, int64_t row, const cad_node *ids)
{
    const int32_t *got = d->ids + d->starts[row];

    assert_int_equal(d->starts[row + 1] - d->starts[row], ids->children);
    for (const cad_node *c = ids->child; c; c = c->next) assert_int_equal(*got++, c->integer);
}

static void ids_of_records_are_those_of_the_python_run(void **state)
{
    cad_tree *t = read_golden("trainer_run/ids.json"), *run = read_golden("trainer_run/lora/run.json");
    char path[1024], model[1024];
    cad_tokenizer *tokenizer;
    cad_dataset *d;
    int64_t row = 0, cut = 0, longest = int_of(run->root, "max_length");

    (void)state;
    need_golden("../qwen2/model", model);
    assert_int_equal(cad_tokenizer_open(&tokenizer, model), CAD_OK);
    if (cad_dataset_open(&d, tokenizer, &(cad_dataset_options){.path = need_golden("trainer_run/records.jsonl", path), .input_column = "input", .label_column = "output",
                                                               .label_needed = true, .max_length = longest, .truncation = true, .keep_left = true, .threads = 2,
                                                               .vocabulary = cad_tokenizer_size(tokenizer)}))
        fail_msg("%s", cad_reason());
    assert_int_equal(d->count, t->root->children);
    for (const cad_node *ids = t->root->child; ids; ids = ids->next) assert_row(d, row++, ids);
    for (row = 0; row < d->count; row++) cut += d->cut[row];
    print_message("%lld records, %lld tokens, %lld cut, longest %lld\n", (long long)d->count, (long long)d->starts[d->count], (long long)cut, (long long)d->longest);
    assert_int_equal(cut, d->cut_by_label[0] + d->cut_by_label[1]);
    assert_true(d->longest <= longest);
    cad_dataset_close(&d);
    cad_tokenizer_close(&tokenizer);
    cad_tree_close(&t);
    cad_tree_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {CLEAN_TEST(ids_of_records_are_those_of_the_python_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
