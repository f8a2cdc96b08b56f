#include "golden.h"

#include "../../../src/data/data_priv.h"

static cad_sampler *open_sampler(const cad_sampler_options *o)
{
    cad_sampler *s;

    assert_int_equal(cad_sampler_open(&s, o), CAD_OK);
    return s;
}

static void assert_atom(cad_sampler *s, int64_t atom, const cad_node *want)
{
    int64_t rows[64], count;

    assert_int_equal(cad_sampler_atom(s, atom, rows, &count), CAD_OK);
    assert_ints_equal(rows, count, want);
}

static void each_rank_reads_what_accelerate_deals(void **state)
{
    cad_tree *t = read_golden("data_order/rank_batches.json");

    (void)state;
    for (const cad_node *c = cad_get(t->root, "cases")->child; c; c = c->next) {
        int world = (int)int_of(c, "world_size"), e = 0;
        cad_sampler *s;
        if (cad_get(c, "drop_last")->boolean) continue; /* not an option of the program */
        s = open_sampler(&(cad_sampler_options){.rows = int_of(c, "n"), .batch = int_of(c, "per_device_batch"), .atoms_per_step = world, .world_at_start = world,
                                                .accumulation_at_start = 1, .seed = (uint64_t)int_of(c, "seed"), .normalization = CAD_NORM_HF});
        for (const cad_node *epoch = cad_get(c, "epochs")->child; epoch; epoch = epoch->next, e++) {
            int rank = 0;
            for (const cad_node *of_rank = epoch->child; of_rank; of_rank = of_rank->next, rank++) {
                int64_t k = 0;
                assert_int_equal(of_rank->children * world, cad_sampler_atoms(s));
                for (const cad_node *batch = of_rank->child; batch; batch = batch->next) assert_atom(s, e * cad_sampler_atoms(s) + k++ * world + rank, batch);
            }
        }
        cad_sampler_close(&s);
    }
    cad_tree_close(&t);
}

static void check_trainer(const cad_node *c, bool grouped)
{
    cad_sampler_options o = {.rows = int_of(c, "n"), .batch = int_of(c, "per_device_batch"), .atoms_per_step = int_of(c, "grad_accum"), .world_at_start = 1,
                             .accumulation_at_start = int_of(c, "grad_accum"), .seed = (uint64_t)int_of(c, "seed"), .group_by_length = grouped};
    const cad_node *data_seed = cad_get(c, "data_seed"), *want = cad_get(c, "micro_batches");
    int64_t n = 0, *lengths = grouped ? ints_of(cad_get(c, "lengths"), &n) : NULL, atom = 0;
    int32_t *short_ones;
    cad_sampler *s;

    assert_int_equal(cad_alloc(&short_ones, (size_t)n, sizeof *short_ones, "lengths"), CAD_OK);
    for (int64_t i = 0; i < n; i++) short_ones[i] = (int32_t)lengths[i];
    if (data_seed && data_seed->kind == CAD_INT) o.seed = (uint64_t)data_seed->integer;
    o.lengths = short_ones;
    s = open_sampler(&o);
    cad_free(&short_ones);
    assert_int_equal(want->children, cad_sampler_atoms(s) * int_of(c, "epochs"));
    if (!grouped) assert_int_equal(cad_sampler_steps(s) * int_of(c, "epochs"), int_of(c, "global_step"));
    for (const cad_node *b = want->child; b; b = b->next) assert_atom(s, atom++, b);
    for (const cad_node *b = want->child; b; b = b->next) assert_atom(s, atom - want->children, b), atom++; /* and from the beginning again */
    cad_sampler_close(&s);
    cad_free(&lengths);
}

static void micro_batches_are_those_of_a_trainer_run(void **state)
{
    cad_tree *t = read_golden("data_order/trainer_order.json");

    (void)state;
    for (const cad_node *c = cad_get(t->root, "random")->child; c; c = c->next) check_trainer(c, false);
    cad_tree_close(&t);
}

static void length_grouped_micro_batches_are_those_of_a_trainer_run(void **state)
{
    cad_tree *t = read_golden("data_order/trainer_order.json");

    (void)state;
    for (const cad_node *c = cad_get(t->root, "group_by_length")->child; c; c = c->next) check_trainer(c, true);
    cad_tree_close(&t);
}

static void the_length_grouped_order_of_an_own_generator(void **state)
{
    cad_tree *t = read_golden("data_order/trainer_order.json");

    (void)state;
    for (const cad_node *c = cad_get(t->root, "length_grouped_sampler")->child; c; c = c->next) {
        int64_t n, *lengths = ints_of(cad_get(c, "lengths"), &n), order[2000], batch = int_of(c, "batch_size");
        int32_t narrow[2000];
        cadp_length scratch[2000];
        cad_mt m;
        assert_true(n <= 2000);
        for (int64_t i = 0; i < n; i++) narrow[i] = (int32_t)lengths[i];
        cad_mt_seed(&m, (uint64_t)int_of(c, "generator_seed"));
        cadp_group_by_length(&m, narrow, n, batch, order, scratch);
        assert_ints_equal(order, n, cad_get(c, "order"));
        cad_free(&lengths);
    }
    cad_tree_close(&t);
}

/* ---- a whole run: records -> orders -> micro-batches ---- */

static int32_t *labels_of_file(const char *path, int64_t *count)
{
    int32_t *y, n = 0;
    char *text;
    size_t size;

    assert_int_equal(cad_read_file(&text, &size, path, (size_t)1 << 28, CAD_EDATA), CAD_OK);
    assert_int_equal(cad_alloc(&y, size, sizeof *y, "labels"), CAD_OK);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        cad_tree *t;
        const char *label;
        assert_int_equal(cad_json_parse(&t, line, strlen(line), path, CAD_EDATA), CAD_OK);
        assert_true(cad_get_string(t->root, "output", &label, ""));
        y[n++] = atoi(label);
        cad_tree_close(&t);
    }
    cad_free(&text);
    *count = n;
    return y;
}

static void check_run(const cad_orders *orders, const char *run)
{
    cad_tree *t = read_golden(run);
    const cad_node *r = t->root;
    int64_t atom = 0, rows[64], count;
    cad_sampler *s = open_sampler(&(cad_sampler_options){.rows = orders->train_count, .batch = int_of(r, "per_device_batch"), .atoms_per_step = int_of(r, "grad_accum"),
                                                         .world_at_start = 1, .accumulation_at_start = int_of(r, "grad_accum"), .seed = (uint64_t)int_of(r, "seed"),
                                                         .normalization = CAD_NORM_HF});

    for (const cad_node *epoch = cad_get(r, "micro_batches_rows")->child; epoch; epoch = epoch->next) {
        assert_int_equal(epoch->children, cad_sampler_atoms(s));
        for (const cad_node *b = epoch->child; b; b = b->next) {
            assert_int_equal(cad_sampler_atom(s, atom++, rows, &count), CAD_OK);
            for (int64_t i = 0; i < count; i++) rows[i] = orders->train[rows[i]];
            assert_ints_equal(rows, count, b);
        }
    }
    assert_int_equal(cad_sampler_steps(s) * int_of(r, "epochs"), int_of(r, "max_steps"));
    cad_sampler_close(&s);
    cad_tree_close(&t);
}

static void a_run_of_the_python_program_is_repeated_row_for_row(void **state)
{
    cad_split_options o = {.validation_split = 0.2, .split_seed = 42, .oversample = true, .target_label = 1, .repeat_times = 4,
                           .shuffle_seed = 420, .train_shuffle_seed = 425, .eval_shuffle_seed = 300};
    cad_tree *t = read_golden("trainer_run/data_order.json");
    char path[1024];
    int64_t n;
    int32_t *y = labels_of_file(need_golden("trainer_run/records.jsonl", path), &n);
    cad_orders orders;

    (void)state;
    assert_int_equal(cad_make_orders(&orders, y, n, &o), CAD_OK);
    assert_ints_equal(orders.train, orders.train_count, cad_get(t->root, "train_rows"));
    assert_ints_equal(orders.eval, orders.eval_count, cad_get(t->root, "eval_rows"));
    check_run(&orders, "trainer_run/lora/run.json");
    check_run(&orders, "trainer_run/full/run.json");
    cad_orders_close(&orders);
    cad_free(&y);
    cad_tree_close(&t);
}

/* ---- without reference numbers ---- */

static void a_small_epoch_row_for_row(void **state)
{
    /* randperm(7, seed 42) and (7, seed 43) of torch 2.13 */
    static const int64_t want[2][7] = {{1, 6, 3, 5, 4, 0, 2}, {3, 1, 2, 4, 5, 0, 6}};
    cad_sampler *s = open_sampler(&(cad_sampler_options){.rows = 7, .batch = 3, .atoms_per_step = 2, .world_at_start = 1, .accumulation_at_start = 2, .seed = 42});
    int64_t rows[3], count;

    (void)state;
    assert_int_equal(cad_sampler_atoms(s), 3);
    assert_int_equal(cad_sampler_steps(s), 2);
    for (int64_t atom = 0; atom < 6; atom++) {
        assert_int_equal(cad_sampler_atom(s, atom, rows, &count), CAD_OK);
        assert_int_equal(count, atom % 3 == 2 ? 1 : 3);
        for (int64_t i = 0; i < count; i++) assert_int_equal(rows[i], want[atom / 3][atom % 3 * 3 + i]);
    }
    cad_sampler_close(&s);
}

/* A Trainer of Transformers 5.23 with train_sampling_strategy group_by_length, 13 rows of these lengths, batches of 3, seed 11. */
static void evaluations_between_epochs_move_the_grouped_order(void **state)
{
    enum { ROWS = 13, EPOCHS = 3 };
    static const int32_t lengths[ROWS] = {7, 3, 9, 4, 4, 12, 5, 9, 2, 6, 3, 8, 11};
    static const int64_t want[3][EPOCHS * ROWS] = {
        {5, 2, 10, 0, 9, 4, 12, 3, 1, 7, 11, 6, 8, 5, 1, 10, 7, 4, 3, 0, 6, 8, 12, 2, 11, 9, 5, 4, 8, 11, 0, 3, 2, 6, 1, 12, 9, 10, 7},
        {5, 2, 10, 0, 9, 4, 12, 3, 1, 7, 11, 6, 8, 5, 7, 10, 2, 6, 4, 9, 3, 8, 12, 0, 1, 11, 5, 11, 10, 2, 7, 4, 3, 1, 8, 12, 0, 6, 9},
        {5, 2, 10, 0, 9, 4, 12, 3, 1, 7, 11, 6, 8, 5, 11, 1, 0, 4, 10, 12, 7, 8, 2, 9, 6, 3, 5, 0, 8, 11, 10, 1, 2, 9, 3, 12, 6, 4, 7}};

    (void)state;
    for (int when = 0; when < 3; when++) { /* never, after each epoch, every two steps */
        cad_sampler *s = open_sampler(&(cad_sampler_options){.rows = ROWS, .batch = 3, .atoms_per_step = 1, .world_at_start = 1, .accumulation_at_start = 1, .seed = 11, .group_by_length = true,
                                                             .lengths = lengths, .evaluates_epochs = when == 1, .evaluates_every = when == 2 ? 2 : 0});
        int64_t rows[3], count, at = 0;
        for (int64_t a = 0; a < EPOCHS * cad_sampler_atoms(s); a++) {
            assert_int_equal(cad_sampler_atom(s, a, rows, &count), CAD_OK);
            for (int64_t i = 0; i < count; i++) assert_int_equal(rows[i], want[when][at++]);
        }
        assert_int_equal(at, EPOCHS * ROWS);
        cad_sampler_close(&s);
    }
}

static void with_global_normalisation_nobody_trains_twice(void **state)
{
    int32_t lengths[50];
    int64_t rows[4], count;

    (void)state;
    for (int i = 0; i < 50; i++) lengths[i] = 1 + i * 7 % 23;
    for (int grouped = 0; grouped < 2; grouped++)
        for (int64_t n = 1; n <= 50; n++) {
            cad_sampler *s = open_sampler(&(cad_sampler_options){.rows = n, .batch = 4, .atoms_per_step = 6, .world_at_start = 3, .accumulation_at_start = 2, .seed = 1,
                                                                 .group_by_length = grouped, .lengths = lengths});
            int seen[50] = {0};
            assert_int_equal(cad_sampler_atoms(s), (n + 3) / 4);
            for (int64_t a = 0; a < cad_sampler_atoms(s); a++) {
                assert_int_equal(cad_sampler_atom(s, a, rows, &count), CAD_OK);
                for (int64_t i = 0; i < count; i++) seen[rows[i]]++;
            }
            for (int64_t i = 0; i < n; i++) assert_int_equal(seen[i], 1);
            cad_sampler_close(&s);
        }
}

static void any_order_of_calls_gives_the_same_atoms(void **state)
{
    enum { ROWS = 19, EPOCHS = 5 };
    int32_t lengths[ROWS];

    (void)state;
    for (int i = 0; i < ROWS; i++) lengths[i] = 1 + i * 5 % 7;
    for (int grouped = 0; grouped < 2; grouped++) {
        cad_sampler_options o = {.rows = ROWS, .batch = 4, .atoms_per_step = 4, .world_at_start = 2, .accumulation_at_start = 2, .seed = 9, .group_by_length = grouped,
                                 .lengths = lengths, .normalization = CAD_NORM_HF};
        cad_sampler *straight = open_sampler(&o), *jumping = open_sampler(&o);
        int64_t all = cad_sampler_atoms(straight) * EPOCHS, forward[64][4], rows[4], count, calls;
        for (int64_t a = 0; a < all; a++) assert_int_equal(cad_sampler_atom(straight, a, forward[a], &count), CAD_OK);
        calls = cad_mem_calls();
        for (int64_t k = 0; k < all; k++) {
            int64_t a = k * 11 % all;
            assert_int_equal(cad_sampler_atom(jumping, a, rows, &count), CAD_OK);
            assert_memory_equal(rows, forward[a], (size_t)count * sizeof *rows);
        }
        assert_int_equal(cad_mem_calls(), calls); /* nothing is allocated once it is open */
        cad_sampler_close(&straight);
        cad_sampler_close(&jumping);
    }
}

static void a_resumed_run_keeps_the_deal_whatever_the_steps_are_cut_into(void **state)
{
    cad_sampler_options o = {.rows = 23, .batch = 4, .atoms_per_step = 4, .world_at_start = 4, .accumulation_at_start = 1, .seed = 42, .normalization = CAD_NORM_HF};
    cad_sampler *s = open_sampler(&o);

    (void)state;
    assert_int_equal(cad_sampler_atoms(s), 8); /* six, filled to two rounds of four */
    assert_int_equal(cad_sampler_steps(s), 2);
    cad_sampler_close(&s);
}

static void a_sampler_of_no_rows_is_refused(void **state)
{
    cad_sampler *s;

    (void)state;
    assert_int_equal(cad_sampler_open(&s, &(cad_sampler_options){.batch = 1, .atoms_per_step = 1, .world_at_start = 1, .accumulation_at_start = 1}), CAD_EDATA);
    assert_null(s);
    cad_sampler_close(&s);
}

static void no_failed_allocation_leaks(void **state)
{
    static const int32_t lengths[5] = {3, 1, 4, 1, 5};
    cad_sampler_options o = {.rows = 5, .batch = 2, .atoms_per_step = 1, .world_at_start = 1, .accumulation_at_start = 1, .group_by_length = true, .lengths = lengths};
    cad_sampler *s = NULL;
    int64_t nth = 0;

    (void)state;
    do {
        cad_clear();
        cad_mem_fail_at(++nth);
    } while (cad_sampler_open(&s, &o) && !s && cad_mem_blocks() == 0);
    cad_mem_fail_at(0);
    assert_int_equal(nth, 6);
    cad_sampler_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLEAN_TEST(each_rank_reads_what_accelerate_deals),
        CLEAN_TEST(micro_batches_are_those_of_a_trainer_run),
        CLEAN_TEST(length_grouped_micro_batches_are_those_of_a_trainer_run),
        CLEAN_TEST(the_length_grouped_order_of_an_own_generator),
        CLEAN_TEST(a_run_of_the_python_program_is_repeated_row_for_row),
        CLEAN_TEST(a_small_epoch_row_for_row),
        CLEAN_TEST(evaluations_between_epochs_move_the_grouped_order),
        CLEAN_TEST(with_global_normalisation_nobody_trains_twice),
        CLEAN_TEST(any_order_of_calls_gives_the_same_atoms),
        CLEAN_TEST(a_resumed_run_keeps_the_deal_whatever_the_steps_are_cut_into),
        CLEAN_TEST(a_sampler_of_no_rows_is_refused),
        CLEAN_TEST(no_failed_allocation_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
