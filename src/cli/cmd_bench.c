/* bench: how fast this machine does the operations that a training step is made of. The figures of merit live in benchmarks/. */
#include "bench_priv.h"

#include <stdio.h>

/* A decoder block of about 135 M parameters' shape, at 1024 tokens: rows x inner x columns. */
typedef struct product { const char *name; int64_t m, n, k; } product;
static const product products[] = {
    {"query", 1024, 576, 576}, {"gate", 1024, 1536, 576}, {"down", 1024, 576, 1536}, {"square", 1024, 1024, 1024}, {"large", 2048, 2048, 2048},
};
static const double SECONDS = 0.2; /* per row */

typedef struct bench { cad_device *d; cad_json j; void *a, *b, *c; cad_dtype dtype; } bench;

/* Values whose sums stay small: -1, -0.5, 0, 0.5, 1 in turn. */
static cad_status fill(bench *b, void *to, int64_t n, cad_dtype dtype)
{
    uint8_t *host = NULL;
    size_t each = cad_dtype_bytes(dtype);
    cad_status st;

    CAD_TRY(cad_alloc(&host, (size_t)n, each, "numbers to multiply"));
    for (int64_t i = 0; i < n; i++) {
        float x = (float)(i % 5 - 2) * 0.5f;
        uint16_t h = cad_f32_to_bf16(x);
        memcpy(host + (size_t)i * each, dtype == CAD_BF16 ? (const void *)&h : (const void *)&x, each);
    }
    st = cad_device_upload(b->d, to, host, n * (int64_t)each);
    cad_free(&host);
    return st;
}

static cad_status time_product(bench *b, const product *p, cad_dtype dtype, double *seconds)
{
    cad_matmul_args x = {.c = cad_view(b->c, CAD_F32, p->m, p->n), .a = cad_view(b->a, dtype, p->m, p->k), .b = cad_view(b->b, dtype, p->n, p->k), .tb = true, .alpha = 1};
    double began, best = 1e30;

    CAD_TRY(cad_matmul(b->d, &x)); /* the first call compiles */
    CAD_TRY(cad_device_sync(b->d));
    began = cad_now();
    do {
        double from = cad_now(), took;
        CAD_TRY(cad_matmul(b->d, &x));
        CAD_TRY(cad_device_sync(b->d));
        took = cad_now() - from;
        if (took < best) best = took;
    } while (cad_now() - began < SECONDS);
    *seconds = best;
    return CAD_OK;
}

static cad_status put_product(bench *b, const product *p, cad_dtype dtype)
{
    double seconds = 0;

    CAD_TRY(fill(b, b->a, p->m * p->k, dtype));
    CAD_TRY(fill(b, b->b, p->n * p->k, dtype));
    CAD_TRY(time_product(b, p, dtype, &seconds));
    CAD_TRY(cad_json_begin(&b->j, NULL, '{'));
    CAD_TRY(cad_json_string(&b->j, "name", p->name));
    CAD_TRY(cad_json_string(&b->j, "dtype", cad_dtype_name(dtype)));
    CAD_TRY(cad_json_int(&b->j, "m", p->m));
    CAD_TRY(cad_json_int(&b->j, "n", p->n));
    CAD_TRY(cad_json_int(&b->j, "k", p->k));
    CAD_TRY(cad_json_real(&b->j, "seconds", seconds));
    CAD_TRY(cad_json_real(&b->j, "gflop_per_second", 2e-9 * (double)p->m * (double)p->n * (double)p->k / seconds));
    return cad_json_end(&b->j);
}

static cad_status put_products(bench *b)
{
    static const cad_dtype dtypes[] = {CAD_F32, CAD_BF16};

    CAD_TRY(cad_json_begin(&b->j, "products", '['));
    for (int t = 0; t < 2; t++)
        for (size_t i = 0; i < sizeof products / sizeof *products; i++) CAD_TRY(put_product(b, &products[i], dtypes[t]));
    return cad_json_end(&b->j);
}

static cad_status put_all(bench *b)
{
    CAD_TRY(cad_json_begin(&b->j, NULL, '{'));
    CAD_TRY(cad_json_string(&b->j, "device", cad_device_description(b->d)));
    CAD_TRY(cad_json_int(&b->j, "threads", cad_device_threads(b->d)));
    CAD_TRY(put_products(b));
    CAD_TRY(cadp_bench_step(&b->j, b->d, b->dtype));
    return cad_json_end(&b->j);
}

static cad_status take_memory(bench *b)
{
    enum { LARGEST = 2048 * 2048 };

    CAD_TRY(cad_device_alloc(b->d, &b->a, LARGEST * 4, "a"));
    CAD_TRY(cad_device_alloc(b->d, &b->b, LARGEST * 4, "b"));
    CAD_TRY(cad_device_alloc(b->d, &b->c, LARGEST * 4, "c"));
    return cad_device_reserve(b->d, 256 << 20);
}

cad_status cadp_cmd_bench(cadp_call *c)
{
    const char *device = strcmp(c->o->runtime.device, "auto") ? c->o->runtime.device : cad_device_gpus() ? "cuda" : "cpu";
    bench b = {.j = {.pretty = true}, .dtype = c->o->training.bf16 ? CAD_BF16 : CAD_F32};
    cad_status st = cad_device_open(&b.d, device, (int)c->o->runtime.threads), closed;

    if (st) return st;
    st = take_memory(&b);
    if (!st) st = put_all(&b);
    if (!st) puts(b.j.text.data);
    cad_json_close(&b.j);
    cad_device_free(b.d, &b.a);
    cad_device_free(b.d, &b.b);
    cad_device_free(b.d, &b.c);
    closed = cad_device_close(&b.d);
    return st ? st : closed;
}
