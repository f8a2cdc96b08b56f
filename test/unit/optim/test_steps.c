#include "../data/golden.h"

#include <cadtrain/optim.h>

static void step_counts_are_those_of_the_trainer(void **state)
{
    cad_tree *t = read_golden("schedule/steps.json");

    (void)state;
    for (const cad_node *c = cad_get(t->root, "trainer_arithmetic")->child; c; c = c->next) {
        const cad_node *want = cad_get(c, "result");
        cad_steps s = cad_count_steps(int_of(c, "examples"), int_of(c, "per_device_batch"), 1, int_of(c, "grad_accum"), real_of(c, "num_train_epochs", 0), int_of(c, "max_steps"));
        assert_int_equal(s.epochs, int_of(want, "num_train_epochs"));
        assert_int_equal(s.steps_per_epoch, int_of(want, "num_update_steps_per_epoch"));
        assert_int_equal(s.batches_per_rank, int_of(want, "steps_in_epoch"));
        assert_int_equal(s.max_steps, int_of(want, "max_steps"));
        assert_int_equal(cad_count_warmup(real_of(c, "warmup_ratio", 0), 0, s.max_steps), int_of(c, "warmup_steps"));
    }
    cad_tree_close(&t);
}

static void each_rank_has_as_many_batches_as_the_loader_gives(void **state)
{
    cad_tree *t = read_golden("schedule/steps.json");

    (void)state;
    for (const cad_node *c = cad_get(t->root, "dataloader_length")->child; c; c = c->next) {
        if (cad_get(c, "drop_last")->boolean) continue; /* not an option of the program */
        assert_int_equal(cad_count_steps(int_of(c, "examples"), int_of(c, "per_device_batch"), (int)int_of(c, "world_size"), 1, 1, 0).batches_per_rank,
                         int_of(c, "steps_in_epoch_per_rank"));
    }
    cad_tree_close(&t);
}

static void steps_by_hand(void **state)
{
    cad_steps s = cad_count_steps(23, 4, 2, 2, 2.5, -1); /* six batches, three a rank, two updates an epoch */

    (void)state;
    assert_int_equal(s.batches_per_rank, 3);
    assert_int_equal(s.steps_per_epoch, 2);
    assert_int_equal(s.max_steps, 5);
    assert_int_equal(s.epochs, 3);
    s = cad_count_steps(23, 4, 2, 2, 2.5, 7);
    assert_int_equal(s.max_steps, 7);
    assert_int_equal(s.epochs, 4);
    s = cad_count_steps(1, 8, 1, 16, 1, 0);
    assert_int_equal(s.steps_per_epoch, 1);
}

static void warm_up_is_a_count_or_a_ratio(void **state)
{
    (void)state;
    assert_int_equal(cad_count_warmup(5, 0.5, 100), 5);
    assert_int_equal(cad_count_warmup(2.9, 0, 100), 2);
    assert_int_equal(cad_count_warmup(0.03, 0.5, 75), 3);
    assert_int_equal(cad_count_warmup(0, 0.1, 101), 11);
    assert_int_equal(cad_count_warmup(0, 0, 101), 0);
    assert_int_equal(cad_count_warmup(1, 0, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLEAN_TEST(step_counts_are_those_of_the_trainer),
        CLEAN_TEST(each_rank_has_as_many_batches_as_the_loader_gives),
        CLEAN_TEST(steps_by_hand),
        CLEAN_TEST(warm_up_is_a_count_or_a_ratio),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
