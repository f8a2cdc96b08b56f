/* ref defines right for every other backend, so it is held against torch 2 in float64 itself. Inputs are 2 sin(1.3 i + offset); the
 * expected numbers are printed by torch: functional.scaled_dot_product_attention, silu, gelu, cross_entropy, optim.AdamW, and for rmsnorm, rope
 * (halves: transformers' rotate_half; pairs: complex multiplication) and capped, windowed attention their formulas written with its tensors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <float.h>
#include <cmocka.h>

#include <cadtrain/device.h>

static const double rmsnorm_want[] = {0.32768809311505365, 3.98394380334538, 0.41960346281179511, 1.0718002118458974, -0.3011164087232398,
    1.0288906284375865, 4.0633804281700687, 0.22018319832474101, 1.2535237027847321, -0.25246574412073436};
static const double rope_half_want[] = {0.39733866159012243, 1.9949899732081089, 0.66997630031180933, -1.6365542221288216, -2.500085385267004,
    0.7808052940209439, -0.23141270477606612, 0.32850044116231153, -0.30872170173458058, -1.5831009985430342, -2.1709336731185349, 1.5869090225621012};
static const double rope_pairs_want[] = {0.39733866159012243, 1.9949899732081089, 0.66997630031180933, -1.6365542221288216, -1.5163917918403178,
    -0.86303509745724916, 1.9439817320538153, 0.44520736764986207, 1.8921611162604339, -1.1636830252013626, 0.78907297668968746, 2.0677724933142749};
static const double attention_want[] = {0.95885107720840601, 1.9476952617563903, 0.95885107720840601, 1.9476952617563903, 0.82738678900647178,
    1.3695729890474062, 0.65624287548870008, 0.61695712966493232, -0.39806109803594447, -0.27342925501075188, 0.46238668575687236, 1.6308368081687119,
    0.25243529278539345, -1.4545702749961213, -0.759056500452292, 0.96446608520974575, 1.362336545006904, -0.27145249138883026, -1.498569494978037,
    0.14127902790875141};
static const double lse_want[] = {1.4525277852381691, -1.3403855206392654, 0.73488670895879382, 1.3775020878110065, 1.5590807964503415,
    1.7703425339606256, 1.6360600069030529, 1.4523953920850869, 1.4752353119493371, 2.0329375261651794};
static const double sdpa_want[] = {0.95885107720840601, 1.9476952617563903, 0.95885107720840601, 1.9476952617563903, 0.86740746783904099,
    1.545566379484375, 0.68860902921621836, 0.75928927634692323, -0.43475543518775217, -0.39892992647064096, 0.85241995852788044, 1.8971061190680962,
    0.15973422404104412, -1.7304192983030213, -0.042480042461908736, 1.548802702328959, 1.1829276370570883, -0.6442749249608507, -1.6938340058314292,
    -0.34058750515211378};
static const double sdpa_full_want[] = {0.76990526620477984, 1.7036040390351423, 0.12311008701461626, -1.4640823713850877, -1.0201559307760169,
    0.77721269146978922, 1.4744739086212526, -0.050121135990706972, -1.7365430692678889, -0.66569441762321013, 0.99510829557265223, 1.54509022826898,
    -0.51222812543649043, -1.4136047792789814, -0.16351163568530225, 1.4080876332487411, 1.1829276370570883, -0.6442749249608507, -1.6938340058314292,
    -0.34058750515211378};
static const double silu_want[] = {2.9338146280348081, 6.3897655545115635, 0.052733316515201939, 0.15361254049409279, 0.14008675854058886,
    4.7047430358296696};
static const double gelu_tanh_want[] = {3.2021031572561856, 6.5345162282443061, 0.048652303319993997, 0.00021416332091002641, 0.032783328393512279,
    4.9514881887852011};
static const double gelu_want[] = {3.2016585379850966, 6.5343389687306814, 0.048651821991855242, 0.00036068132555008939, 0.032771532758841246,
    4.9507402164370014};
static const double nll_want[] = {3.0360684149081152, 3.9187768081117338};
static const double dlogits_want[] = {0.11600262006149774, 0.12199154828395951, -0.23799416834545722, -0.73510096570524242, 0.075891190277982065,
    0.65920977542726034};
static const double adamw_want[] = {1.6499861086606769, 1.4767147615898204, -0.8531724573812709, -1.9385252016876255};

typedef struct bench { cad_device *d; void *block[16]; int n; int32_t starts[2]; cad_packing packing; } bench;

static bench open_bench(int32_t tokens)
{
    bench b = {.starts = {0, tokens}};

    cad_clear();
    assert_int_equal(cad_device_open(&b.d, "check:ref", 1), CAD_OK);
    assert_int_equal(cad_device_reserve(b.d, 4096), CAD_OK);
    return b;
}

static void *place(bench *b, const void *bytes, int64_t n)
{
    void **p = &b->block[b->n++];

    assert_int_equal(cad_device_alloc(b->d, p, n, "t"), CAD_OK);
    if (bytes) assert_int_equal(cad_device_upload(b->d, *p, bytes, n), CAD_OK);
    return *p;
}

static cad_tensor waves(bench *b, int64_t rows, int64_t cols, double offset)
{
    double v[64];

    for (int64_t i = 0; i < rows * cols; i++) v[i] = 2 * sin(1.3 * (double)i + offset);
    return cad_view(place(b, v, rows * cols * 8), CAD_F64, rows, cols);
}

static cad_tensor room(bench *b, int64_t rows, int64_t cols) { return cad_view(place(b, NULL, rows * cols * 8), CAD_F64, rows, cols); }

static const cad_packing *pack(bench *b)
{
    b->packing = (cad_packing){.tokens = b->starts[1], .sequences = 1, .longest = b->starts[1], .starts = b->starts};
    b->packing.starts_dev = place(b, b->starts, 8);
    return &b->packing;
}

static void done(cad_status status, const char *what)
{
    if (status) fail_msg("%s: %s", what, cad_reason());
}

/* Within 64 roundings of the largest. */
static void equals(cad_tensor t, const double *want)
{
    double top = 1;

    for (int64_t i = 0; i < t.rows * t.cols; i++) top = fmax(top, fabs(want[i]));
    for (int64_t i = 0; i < t.rows * t.cols; i++)
        if (!(fabs(((double *)t.data)[i] - want[i]) <= 64 * DBL_EPSILON * top)) fail_msg("element %d: %.17g, torch has %.17g", (int)i, ((double *)t.data)[i], want[i]);
}

static void close_bench(bench *b)
{
    while (b->n) cad_device_free(b->d, &b->block[--b->n]);
    done(cad_device_close(&b->d), "close");
}

static void rmsnorm_with_a_gain_of_one_plus_w(void **state)
{
    bench b = open_bench(0);
    cad_tensor x = waves(&b, 2, 5, 0.1), w = waves(&b, 1, 5, 0.7), y = room(&b, 2, 5);

    (void)state;
    done(cad_rmsnorm_fwd(b.d, &(cad_rmsnorm_args){.y = y, .x = x, .w = w, .rstd = room(&b, 2, 1), .eps = 1e-3, .plus_one = true}), "rmsnorm");
    equals(y, rmsnorm_want);
    close_bench(&b);
}

static void rope_rotates_halves_and_pairs(void **state)
{
    (void)state;
    for (int pairs = 0; pairs < 2; pairs++) {
        bench b = open_bench(3);
        cad_tensor x = waves(&b, 3, 4, 0.2), co = room(&b, 3, 2), si = room(&b, 3, 2);
        for (int i = 0; i < 6; i++) {
            double angle = i / 2 * (i % 2 ? 0.1 : 1.0);
            ((double *)co.data)[i] = cos(angle);
            ((double *)si.data)[i] = sin(angle);
        }
        done(cad_rope(b.d, &(cad_rope_args){.x = x, .cosine = co, .sine = si, .head_dim = 4, .pairs = pairs, .packing = pack(&b)}), "rope");
        equals(x, pairs ? rope_pairs_want : rope_half_want);
        close_bench(&b);
    }
}

static void attention(double softcap, int64_t window, bool causal, const double *want, const double *want_lse)
{
    bench b = open_bench(5);
    cad_attention_args x = {.q = waves(&b, 5, 4, 0.3), .k = waves(&b, 5, 2, 0.4), .v = waves(&b, 5, 2, 0.5), .o = room(&b, 5, 4), .lse = room(&b, 5, 2), .head_dim = 2,
                            .q_heads = 2, .kv_heads = 1, .window = window, .scale = 0.7, .softcap = softcap, .causal = causal};

    x.packing = pack(&b);
    done(cad_attention_fwd(b.d, &x), "attention");
    equals(x.o, want);
    if (want_lse) equals(x.lse, want_lse);
    close_bench(&b);
}

static void attention_causal_and_full(void **state)
{
    (void)state;
    attention(0, 0, true, sdpa_want, NULL);
    attention(0, 0, false, sdpa_full_want, NULL);
}

static void attention_capped_in_a_window(void **state)
{
    (void)state;
    attention(1.5, 3, true, attention_want, lse_want);
}

static void gated_activations(void **state)
{
    const double *want[] = {silu_want, gelu_tanh_want, gelu_want};

    (void)state;
    for (int act = 0; act < 3; act++) {
        bench b = open_bench(0);
        cad_tensor g = waves(&b, 1, 6, 0.6), u = waves(&b, 1, 6, 0.8), m = room(&b, 1, 6);
        for (int i = 0; i < 6; i++) ((double *)g.data)[i] *= 2;
        done(cad_glu_fwd(b.d, &(cad_glu_args){.m = m, .gate = g, .up = u, .act = (cad_activation)act}), "glu");
        equals(m, want[act]);
        close_bench(&b);
    }
}

static void weighted_cross_entropy_and_its_gradient(void **state)
{
    bench b = open_bench(0);
    cad_tensor dlogits = room(&b, 2, 3), nll = room(&b, 2, 1);
    cad_xent_args x = {.logits = waves(&b, 2, 3, 0.9), .dlogits = dlogits, .nll = nll, .scale = 0.25};

    (void)state;
    x.labels = cad_view(place(&b, (int32_t[]){2, 0}, 8), CAD_I32, 2, 1);
    x.weights = cad_view(place(&b, (float[]){1, 3}, 8), CAD_F32, 2, 1);
    done(cad_xent(b.d, &x), "xent");
    equals(nll, nll_want);
    equals(dlogits, dlogits_want);
    close_bench(&b);
}

static void a_label_out_of_range_is_refused(void **state)
{
    bench b = open_bench(0);
    cad_xent_args x = {.logits = waves(&b, 2, 3, 0.9), .nll = room(&b, 2, 1), .scale = 1};

    (void)state;
    x.labels = cad_view(place(&b, (int32_t[]){2, 3}, 8), CAD_I32, 2, 1);
    assert_int_equal(cad_xent(b.d, &x), CAD_EINTERNAL);
    assert_string_equal(cad_reason(), "xent: expected labels below 3, found 3 in row 1");
    cad_clear();
    close_bench(&b);
}

static void three_steps_of_adamw_with_clipped_gradients(void **state)
{
    bench b = open_bench(0);
    cad_tensor p = waves(&b, 1, 4, 1.0), m = room(&b, 1, 4), v = room(&b, 1, 4);

    (void)state;
    done(cad_device_zero(b.d, m.data, 32), "zero");
    done(cad_device_zero(b.d, v.data, 32), "zero");
    for (int step = 1; step <= 3; step++)
        done(cad_adamw(b.d, &(cad_adamw_args){.p = p, .m = m, .v = v, .g = waves(&b, 1, 4, 0.1 + step), .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .decay = 0.1,
                                              .clip = 0.5, .step = step}), "adamw");
    equals(p, adamw_want);
    close_bench(&b);
}

static void a_tie_is_rounded_to_bfloat16_once(void **state)
{
    bench b = open_bench(0);
    double just_above = 1 + 0x1p-8 + 0x1p-40, tie = 1 + 0x1p-8, just_below = 1 + 0x1p-7 + 0x1p-8 - 0x1p-40;
    cad_tensor x = cad_view(place(&b, (double[]){just_above, tie, just_below}, 24), CAD_F64, 1, 3), y = cad_view(place(&b, NULL, 6), CAD_BF16, 1, 3);

    (void)state;
    done(cad_axpby(b.d, &(cad_axpby_args){.y = y, .x = x, .alpha = 1}), "axpby");
    assert_int_equal(((uint16_t *)y.data)[0], 0x3f81); /* through fp32 it would be 1 */
    assert_int_equal(((uint16_t *)y.data)[1], 0x3f80);
    assert_int_equal(((uint16_t *)y.data)[2], 0x3f81); /* and this 1 + 2^-6 */
    close_bench(&b);
}

static void fixed_point_rounds_ties_to_even_clamps_and_tells_infinity(void **state)
{
    static const double in[] = {0.5, 1.5, -2.5, 1e30, -1e30, NAN};
    static const int64_t want[] = {0, 2, -2, (int64_t)1 << 62, -((int64_t)1 << 62), 0};
    bench b = open_bench(0);
    cad_tensor x = cad_view(place(&b, in, sizeof in), CAD_F64, 1, 6), q = cad_view(place(&b, NULL, 48), CAD_I64, 1, 6), top = cad_view(place(&b, (double[]){7}, 8), CAD_F64, 1, 1);

    (void)state;
    done(cad_fixed_add(b.d, &(cad_fixed_args){.q = cad_columns(q, 0, 3), .x = cad_columns(x, 0, 3), .largest = top}), "fixed_add");
    assert_true(*(double *)top.data == 7);
    done(cad_fixed_add(b.d, &(cad_fixed_args){.q = q, .x = x, .largest = top}), "fixed_add");
    assert_memory_equal(q.data, want, sizeof want);
    assert_true(isinf(*(double *)top.data));
    close_bench(&b);
}

static void dropout_keeps_its_share_and_scales_it(void **state)
{
    bench b = open_bench(0);
    cad_tensor x = cad_view(place(&b, NULL, 10000 * 8), CAD_F64, 100, 100), y = cad_view(place(&b, NULL, 10000 * 8), CAD_F64, 100, 100);
    double kept = 0;

    (void)state;
    for (int i = 0; i < 10000; i++) ((double *)x.data)[i] = 3;
    done(cad_dropout(b.d, &(cad_dropout_args){.y = y, .x = x, .p = 0.25, .seed = 1}), "dropout");
    for (int i = 0; i < 10000; i++) {
        assert_true(((double *)y.data)[i] == 0 || ((double *)y.data)[i] == 4);
        kept += ((double *)y.data)[i] != 0;
    }
    assert_true(fabs(kept - 7500) < 5 * sqrt(10000 * 0.25 * 0.75)); /* five standard deviations */
    close_bench(&b);
}

/* Small whole numbers: every answer is exact. */
static cad_tensor numbers(bench *b, int64_t rows, int64_t cols, const double *v) { return cad_view(place(b, v, rows * cols * 8), CAD_F64, rows, cols); }

static void is_exactly(cad_tensor t, const double *want)
{
    for (int64_t i = 0; i < t.rows * t.cols; i++)
        if (((double *)t.data)[i] != want[i]) fail_msg("element %d: %g, expected %g", (int)i, ((double *)t.data)[i], want[i]);
}

static void a_matmul_adds_all_its_terms(void **state)
{
    bench b = open_bench(0);
    cad_matmul_args x = {.c = numbers(&b, 2, 2, (double[]){1, 2, 3, 4}), .a = numbers(&b, 2, 3, (double[]){1, 2, 3, 4, 5, 6}),
                         .b = numbers(&b, 3, 2, (double[]){1, 0, 0, 1, 1, 1}), .alpha = 2, .beta = 10, .a2 = numbers(&b, 2, 1, (double[]){1, 2}),
                         .b2 = numbers(&b, 1, 2, (double[]){3, 5}), .alpha2 = 100, .bias = numbers(&b, 1, 2, (double[]){0.25, 0.5})};

    (void)state;
    done(cad_matmul(b.d, &x), "matmul"); /* a b = [4 5; 10 11], a2 b2 = [3 5; 6 10] */
    is_exactly(x.c, (double[]){8 + 300 + 10 + 0.25, 10 + 500 + 20 + 0.5, 20 + 600 + 30 + 0.25, 22 + 1000 + 40 + 0.5});
    x = (cad_matmul_args){.c = x.c, .a = cad_columns(x.a, 0, 2), .b = numbers(&b, 2, 2, (double[]){1, 2, 3, 4}), .ta = true, .tb = true, .alpha = 1};
    done(cad_matmul(b.d, &x), "matmul");
    is_exactly(x.c, (double[]){1 * 1 + 4 * 2, 1 * 3 + 4 * 4, 2 * 1 + 5 * 2, 2 * 3 + 5 * 4});
    close_bench(&b);
}

static void pooling_takes_the_last_the_mean_or_the_first(void **state)
{
    static const double want[3][2] = {{9, 8}, {5, 4}, {1, 0}}, want_back[3][6] = {{0, 0, 0, 0, 3, 6}, {1, 2, 1, 2, 1, 2}, {3, 6, 0, 0, 0, 0}};

    (void)state;
    for (int how = 0; how < 3; how++) {
        bench b = open_bench(3);
        cad_pool_args x = {.y = room(&b, 1, 2), .x = numbers(&b, 3, 2, (double[]){1, 0, 5, 4, 9, 8}), .how = (cad_pooling)how, .packing = pack(&b)};
        done(cad_pool_fwd(b.d, &x), "pool_fwd");
        equals(x.y, want[how]);
        x.y = numbers(&b, 1, 2, (double[]){3, 6});
        done(cad_pool_bwd(b.d, &x), "pool_bwd");
        equals(x.x, want_back[how]);
        close_bench(&b);
    }
}

static void embedding_scales_adds_up_and_skips(void **state)
{
    bench b = open_bench(3);
    cad_packing p = *pack(&b);
    cad_embed_args x = {.h = room(&b, 3, 1), .table = numbers(&b, 3, 1, (double[]){1, 2, 3}), .scale = 2, .skip = 0, .packing = &p};

    (void)state;
    p.ids = (const int32_t[]){2, 0, 2};
    p.ids_dev = place(&b, p.ids, 12);
    done(cad_embed_fwd(b.d, &x), "embed_fwd");
    is_exactly(x.h, (double[]){6, 2, 6});
    done(cad_embed_bwd(b.d, &x), "embed_bwd");
    is_exactly(x.table, (double[]){1, 2, 3 + 2 * (6 + 6)});
    close_bench(&b);
}

static void sums_and_scaled_sums_accumulate_when_told(void **state)
{
    bench b = open_bench(0);
    cad_tensor x = numbers(&b, 2, 2, (double[]){1, 2, 3, 4}), y = numbers(&b, 2, 2, (double[]){10, 20, 30, 40}), s = numbers(&b, 1, 2, (double[]){100, 200});

    (void)state;
    done(cad_axpby(b.d, &(cad_axpby_args){.y = y, .x = x, .alpha = 2, .beta = -3}), "axpby");
    is_exactly(y, (double[]){-28, -56, -84, -112});
    done(cad_sum_rows(b.d, &(cad_sum_rows_args){.y = s, .x = x, .accumulate = true}), "sum_rows");
    is_exactly(s, (double[]){104, 206});
    done(cad_sum_rows(b.d, &(cad_sum_rows_args){.y = s, .x = x}), "sum_rows");
    is_exactly(s, (double[]){4, 6});
    done(cad_dropout(b.d, &(cad_dropout_args){.y = y, .x = x, .accumulate = true}), "dropout");
    is_exactly(y, (double[]){-27, -54, -81, -108});
    close_bench(&b);
}

static void dropout_follows_the_words_of_its_counter(void **state)
{
    bench b = open_bench(0);
    cad_tensor x = room(&b, 3, 6), y = room(&b, 3, 6);

    (void)state;
    for (int i = 0; i < 18; i++) ((double *)x.data)[i] = 1;
    done(cad_dropout(b.d, &(cad_dropout_args){.y = y, .x = x, .p = 0.5, .seed = 9, .index = 5, .site = 3}), "dropout");
    for (uint64_t i = 0; i < 18; i++) {
        uint32_t words[4];
        cad_rng_words(9, CAD_RNG_DROPOUT, 3, (uint64_t)5 << 32 | (i / 6 * 2 + i % 6 / 4), words);
        assert_true(((double *)y.data)[i] == (words[i % 6 % 4] >= 0x80000000u ? 2 : 0));
    }
    close_bench(&b);
}

static void flat_sums_are_cut_into_chunks(void **state)
{
    bench b = open_bench(0);
    cad_tensor x = room(&b, 1, CAD_CHUNK + 2), out = room(&b, 1, 2);

    (void)state;
    for (int i = 0; i < CAD_CHUNK + 2; i++) ((double *)x.data)[i] = i < CAD_CHUNK ? 2 : 3;
    done(cad_sumsq(b.d, &(cad_sumsq_args){.x = x, .out = out}), "sumsq");
    is_exactly(out, (double[]){4 * CAD_CHUNK, 18});
    close_bench(&b);
}

static void fixed_point_adds_and_comes_back(void **state)
{
    bench b = open_bench(0);
    cad_tensor x = numbers(&b, 1, 2, (double[]){1.25, -0.5}), back = room(&b, 1, 2);
    cad_tensor q = cad_view(place(&b, (int64_t[]){3, 5}, 16), CAD_I64, 1, 2), q2 = cad_view(place(&b, (int64_t[]){INT64_MAX, 1}, 16), CAD_I64, 1, 2);
    cad_fixed_args f = {.q = q, .x = x, .largest = numbers(&b, 1, 1, (double[]){0}), .exponent = 2, .accumulate = true};

    (void)state;
    done(cad_fixed_add(b.d, &f), "fixed_add");
    assert_memory_equal(q.data, ((int64_t[]){8, 3}), 16);
    f.x = back;
    done(cad_fixed_back(b.d, &f), "fixed_back");
    is_exactly(back, (double[]){2, 0.75});
    done(cad_add_i64(b.d, q2, q), "add_i64"); /* wraps */
    assert_memory_equal(q2.data, ((int64_t[]){INT64_MIN + 7, 4}), 16);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_matmul_adds_all_its_terms),
        cmocka_unit_test(pooling_takes_the_last_the_mean_or_the_first),
        cmocka_unit_test(embedding_scales_adds_up_and_skips),
        cmocka_unit_test(sums_and_scaled_sums_accumulate_when_told),
        cmocka_unit_test(dropout_follows_the_words_of_its_counter),
        cmocka_unit_test(flat_sums_are_cut_into_chunks),
        cmocka_unit_test(fixed_point_adds_and_comes_back),
        cmocka_unit_test(rmsnorm_with_a_gain_of_one_plus_w),
        cmocka_unit_test(rope_rotates_halves_and_pairs),
        cmocka_unit_test(attention_causal_and_full),
        cmocka_unit_test(attention_capped_in_a_window),
        cmocka_unit_test(gated_activations),
        cmocka_unit_test(weighted_cross_entropy_and_its_gradient),
        cmocka_unit_test(a_label_out_of_range_is_refused),
        cmocka_unit_test(three_steps_of_adamw_with_clipped_gradients),
        cmocka_unit_test(a_tie_is_rounded_to_bfloat16_once),
        cmocka_unit_test(fixed_point_rounds_ties_to_even_clamps_and_tells_infinity),
        cmocka_unit_test(dropout_keeps_its_share_and_scales_it),
    };
    return cmocka_run_group_tests_name("ref beside torch", tests, NULL, NULL);
}
