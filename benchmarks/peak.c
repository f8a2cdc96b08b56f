/* What oneDNN alone reaches on this machine with all threads: the best rate that lasts, of square products. Prints GFLOP/s as {"fp32", "bf16"}, and per second of
 * processor time as {"fp32_cpu", "bf16_cpu"}: what a thread reaches while it runs, also where others use the machine. `peak SECONDS` measures each for
 * about so long (1). */
#include <cadtrain/base.h>

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct product { dnnl_engine_t engine; dnnl_stream_t stream; dnnl_memory_desc_t desc; dnnl_memory_t a, b, c; dnnl_primitive_t run; void *bytes[3]; } product;

static dnnl_status_t describe(dnnl_memory_desc_t *out, int64_t n, dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {n, n};

#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(out, 2, dims, type, dnnl_ab);
#else
    return dnnl_memory_desc_init_by_tag(out, 2, dims, type, dnnl_ab);
#endif
}

static dnnl_status_t plan(product *p)
{
    dnnl_primitive_desc_t how;
    dnnl_status_t status;

#if DNNL_VERSION_MAJOR >= 3
    status = dnnl_matmul_primitive_desc_create(&how, p->engine, p->desc, p->desc, NULL, p->desc, NULL);
#else
    dnnl_matmul_desc_t what;
    if ((status = dnnl_matmul_desc_init(&what, &p->desc, &p->desc, NULL, &p->desc))) return status;
    status = dnnl_primitive_desc_create(&how, &what, NULL, p->engine, NULL);
#endif
    if (status) return status;
    status = dnnl_primitive_create(&p->run, how);
    dnnl_primitive_desc_destroy(how);
    return status;
}

static dnnl_status_t hold(product *p, dnnl_memory_t *out, void *bytes)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_create(out, p->desc, p->engine, bytes);
#else
    return dnnl_memory_create(out, &p->desc, p->engine, bytes);
#endif
}

static void tear_down(product *p)
{
    if (p->run) dnnl_primitive_destroy(p->run);
    if (p->a) dnnl_memory_destroy(p->a);
    if (p->b) dnnl_memory_destroy(p->b);
    if (p->c) dnnl_memory_destroy(p->c);
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    for (int i = 0; i < 3; i++) cad_free(&p->bytes[i]);
}

static void fill(void *bytes, int64_t n, bool half)
{
    for (int64_t i = 0; i < n; i++) {
        float value = (float)(i % 61) / 61.0f - 0.5f;
        if (half) ((uint16_t *)bytes)[i] = cad_f32_to_bf16(value);
        else ((float *)bytes)[i] = value;
    }
}

static cad_status set_up(product *p, int64_t n, bool half)
{
    for (int i = 0; i < 3; i++) {
        CAD_TRY(cad_alloc(&p->bytes[i], (size_t)(n * n), half ? 2 : 4, "matrix"));
        fill(p->bytes[i], n * n, half);
    }
    if (dnnl_engine_create(&p->engine, dnnl_cpu, 0) || dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) ||
        describe(&p->desc, n, half ? dnnl_bf16 : dnnl_f32) || plan(p) || hold(p, &p->a, p->bytes[0]) || hold(p, &p->b, p->bytes[1]) || hold(p, &p->c, p->bytes[2]))
        return cad_fail(CAD_ERESOURCE, "oneDNN offers no %s product of %lld x %lld", half ? "bf16" : "fp32", (long long)n, (long long)n);
    return CAD_OK;
}

typedef struct rates { double wall, cpu; } rates;

static double cpu_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void keep(double *best, double rate)
{
    if (rate > *best) *best = rate;
}

/* The mean over the time: what lasts, not the luckiest product. */
static cad_status best_rate(product *p, int64_t n, double seconds, rates *best)
{
    dnnl_exec_arg_t with[] = {{DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
    double began = 0, cpu_began = 0, products = -1;

    while (products < 1 || cad_now() - began < seconds) {
        if (products == 0) { /* after one to warm up */
            began = cad_now();
            cpu_began = cpu_now();
        }
        if (dnnl_primitive_execute(p->run, p->stream, 3, with) || dnnl_stream_wait(p->stream)) return cad_fail(CAD_EINTERNAL, "oneDNN: the product failed");
        products++;
    }
    keep(&best->wall, 2e-9 * (double)n * (double)n * (double)n * products / (cad_now() - began));
    keep(&best->cpu, 2e-9 * (double)n * (double)n * (double)n * products / (cpu_now() - cpu_began));
    return CAD_OK;
}

static cad_status measure(bool half, double seconds, rates *best)
{
    enum { SIDES = 7 };
    const int64_t sides[SIDES] = {384, 512, 768, 1024, 1536, 2048, 3072};

    for (int i = 0; i < SIDES; i++) {
        product p = {0};
        cad_status status = set_up(&p, sides[i], half);
        if (!status) status = best_rate(&p, sides[i], seconds / SIDES, best);
        tear_down(&p);
        CAD_TRY(status);
    }
    return CAD_OK;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;
    rates fp32 = {0}, bf16 = {0};
    cad_status status = measure(false, seconds, &fp32);

    if (!status) status = measure(true, seconds, &bf16);
    if (status) cad_print_failure();
    else printf("{\"fp32\": %.1f, \"bf16\": %.1f, \"fp32_cpu\": %.1f, \"bf16_cpu\": %.1f}\n", fp32.wall, bf16.wall, fp32.cpu, bf16.cpu);
    return status;
}
