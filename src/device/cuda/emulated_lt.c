/* Plain loops in fp32, a row of C at a time. Refuses what the library refuses, so that the kernel of our own runs here too. */
#include "cuda_lt.h"
#include "emulated_rt.h"

#include <stdlib.h>

struct cadp_lt { bool refuses; };

cad_status GRID(lt_open)(cadp_lt **out, const cadp_gpu *gpu)
{
    const char *asked = getenv("CADTRAIN_PRODUCTS");

    (void)gpu;
    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the state of products"));
    (*out)->refuses = asked && !strcmp(asked, "own");
    return CAD_OK;
}

void GRID(lt_close)(cadp_lt **lt) { cad_free(lt); }

static float element(cad_tensor t, int64_t i, int64_t j)
{
    int64_t at = i * t.ld + j;

    return t.dtype == CAD_F32 ? ((const float *)t.data)[at] : cad_bf16_to_f32(((const uint16_t *)t.data)[at]);
}

static float bias_of(const cadp_product *p, int64_t j) { return p->bias ? element(cad_view((void *)(uintptr_t)p->bias, p->a.dtype, 1, p->c.cols), 0, j) : 0; }

static void store(cad_tensor t, int64_t i, int64_t j, float v)
{
    int64_t at = i * t.ld + j;

    if (t.dtype == CAD_F32)
        ((float *)t.data)[at] = v;
    else
        ((uint16_t *)t.data)[at] = cad_f32_to_bf16(v);
}

enum { STRIP = 256, SIDE_BY_SIDE = 16 };

/* Of two rows that both lie along the terms: sums side by side, joined in one order. */
static float dot(cad_tensor a, int64_t i, cad_tensor b, int64_t j)
{
    float lane[SIDE_BY_SIDE] = {0};
    int64_t k = 0;

    if (a.dtype == CAD_F32) {
        const float *x = (const float *)a.data + i * a.ld, *y = (const float *)b.data + j * b.ld;
        for (; k + SIDE_BY_SIDE <= a.cols; k += SIDE_BY_SIDE)
            for (int l = 0; l < SIDE_BY_SIDE; l++) lane[l] += x[k + l] * y[k + l];
    } else {
        const uint16_t *x = (const uint16_t *)a.data + i * a.ld, *y = (const uint16_t *)b.data + j * b.ld;
        for (; k + SIDE_BY_SIDE <= a.cols; k += SIDE_BY_SIDE)
            for (int l = 0; l < SIDE_BY_SIDE; l++) lane[l] += cad_bf16_to_f32(x[k + l]) * cad_bf16_to_f32(y[k + l]);
    }
    for (; k < a.cols; k++) lane[k % SIDE_BY_SIDE] += element(a, i, k) * element(b, j, k);
    for (int half = SIDE_BY_SIDE / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

static void multiply_row(const cadp_product *p, int64_t i, int64_t from, int64_t n)
{
    int64_t terms = p->ta ? p->a.rows : p->a.cols;
    float sum[STRIP] = {0};

    for (int64_t j = 0; j < n && !p->ta && p->tb; j++) sum[j] = dot(p->a, i, p->b, from + j);
    for (int64_t k = 0; k < terms && (p->ta || !p->tb); k++) {
        float a = p->ta ? element(p->a, k, i) : element(p->a, i, k);
        for (int64_t j = 0; j < n; j++) sum[j] += a * (p->tb ? element(p->b, from + j, k) : element(p->b, k, from + j));
    }
    for (int64_t j = 0; j < n; j++) {
        float c = p->alpha * sum[j] + bias_of(p, from + j);
        store(p->c, i, from + j, p->beta != 0 ? c + p->beta * element(p->c, i, from + j) : c);
    }
}

static bool has_a_way(const cadp_lt *lt, const cadp_product *p)
{
    bool narrows = p->a.dtype == CAD_F32 && p->c.dtype == CAD_BF16, nothing = !(p->ta ? p->a.rows : p->a.cols);

    return !lt->refuses && !narrows && !nothing && !(p->bias && p->c.dtype != p->a.dtype);
}

static void run_product(cadp_stream *s, void *with)
{
    const cadp_product *p = with;
    int64_t across = cad_ceil_div(p->c.cols, STRIP);

    (void)s;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < p->c.rows * across; t++) multiply_row(p, t / across, t % across * STRIP, cad_min(STRIP, p->c.cols - t % across * STRIP));
}

cad_status GRID(lt_product)(cadp_lt *lt, cadp_stream *s, const cadp_product *p, void *work, bool *done)
{
    (void)work;
    *done = has_a_way(lt, p);
    return *done ? cadp_emulated_give(s, run_product, p, sizeof *p) : CAD_OK;
}
