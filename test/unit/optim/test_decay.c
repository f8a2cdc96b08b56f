#include "../data/golden.h"

#include <cadtrain/optim.h>

static void check_run(const char *run)
{
    cad_tree *t = read_golden(run);

    for (const cad_node *n = cad_get(t->root, "decay_parameters")->child; n; n = n->next) assert_true(cad_decays(n->text));
    for (const cad_node *n = cad_get(t->root, "no_decay")->child; n; n = n->next) assert_false(cad_decays(n->text));
    cad_tree_close(&t);
}

static void groups_are_those_of_the_trainer(void **state)
{
    (void)state;
    check_run("trainer_run/lora/run.json");
    check_run("trainer_run/full/run.json");
}

static void norms_and_biases_are_left_alone(void **state)
{
    static const char *const no[] = {"model.layers.0.self_attn.q_proj.bias", "BIAS", "attn_bias_table", "encoder.layer.0.attention.output.LayerNorm.weight",
                                     "model.layers.3.input_layernorm.weight", "block.rmsnorm1.scale", "model.norm.weight", "norm", "norm.weight", "a.norm", "A.Norm.B",
                                     "layers.1.self_attn.q_norm.weight", "k_norm", "x._norm.weight", "norms.norm"};
    static const char *const yes[] = {"score.weight", "model.embed_tokens.weight", "base_model.model.layers.0.self_attn.q_proj.lora_A.default.weight", "normal.weight",
                                      "denorm.weight", "norm1.weight", "my_normal.weight", "q_norms.weight", "norms", "", "x.enorm", "bia.s"};

    (void)state;
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) assert_false(cad_decays(no[i]));
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) assert_true(cad_decays(yes[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLEAN_TEST(groups_are_those_of_the_trainer),
        CLEAN_TEST(norms_and_biases_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
