/* On GPUs members of a linear layer with adapters are one product and what each adapter adds; elsewhere one product each. */
#include "tiny.h"

static const int LENGTHS[] = {4, 1, 5, 1};

static double run(tiny *t, tiny_batch *x, const char *device, cad_method method, const char *family, const char *more)
{
    double loss;

    *t = (tiny){.method = method};
    t->method.compute = CAD_F32;
    t->method.seed = 21;
    tiny_arch(&t->arch, family, 2, more);
    tiny_fill(x, LENGTHS, 4);
    tiny_open(t, device, true);
    loss = tiny_loss_from(t, &x->b, 0, true);
    tiny_backward(t);
    return loss;
}

/* Some thirty products one behind the other, each rounded a few times: 2^8 eps of a unit's largest gradient. */
static void same(cad_method method, const char *family, const char *more)
{
    tiny one, other;
    tiny_batch x = {0};
    double want = run(&one, &x, "cpu", method, family, more), found = run(&other, &x, "emulated", method, family, more), bound = 0x1p-16;

    assert_true(fabs(found - want) <= bound * fabs(want));
    for (int u = 0; u < one.params->units; u++) {
        const float *a = one.grad[u], *b = other.grad[u];
        double largest = 0;
        for (int64_t i = 0; i < one.params->train_elems[u]; i++) largest = fmax(largest, fabs((double)a[i]));
        for (int64_t i = 0; i < one.params->train_elems[u]; i++)
            if (!(fabs((double)a[i] - b[i]) <= bound * largest)) fail_msg("unit %d, element %lld: %.9g on cpu, %.9g on emulated", u, (long long)i, (double)a[i], (double)b[i]);
    }
    tiny_close(&one);
    tiny_close(&other);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void all_members_have_adapters(void **state)
{
    (void)state;
    same((cad_method){.lora = true, .r = 3, .alpha = 6, .train_head = true}, "llama", "");
    same((cad_method){.lora = true, .r = 2, .alpha = 5, .dropout = 0.3, .train_bias = true, .train_head = true}, "qwen2", "");
}

static void some_members_have_adapters(void **state)
{
    static const char *const targets[] = {"q_proj", "v_proj", "up_proj"};

    (void)state;
    same((cad_method){.lora = true, .r = 3, .alpha = 6, .targets = targets, .target_count = 3, .train_head = true}, "llama", ", \"attention_bias\": true");
    same((cad_method){.lora = true, .r = 3, .alpha = 6, .dropout = 0.25, .targets = targets, .target_count = 3, .train_head = true}, "qwen2", "");
}

static void members_that_cannot_be_joined(void **state)
{
    static const char *const saves[] = {"0.self_attn.k_proj"};

    (void)state;
    same((cad_method){.lora = true, .r = 2, .alpha = 5, .train_head = true, .saves = saves, .save_count = 1}, "qwen2", "");
    same((cad_method){.lora = true, .r = 2, .alpha = 5, .dora = true, .train_head = true}, "llama", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_members_have_adapters),
        cmocka_unit_test(some_members_have_adapters),
        cmocka_unit_test(members_that_cannot_be_joined),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
