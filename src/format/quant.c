#include <cadtrain/quant.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

const char *cad_code_name(cad_code code)
{
    static const char *const names[] = {"plain", "nf4", "fp4", "int8"};

    return names[code];
}

/* ---- books ---- */

/* Quantiles of a normal distribution (Dettmers et al., QLoRA, appendix E). */
static const float nf4[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                              0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
/* A sign, two bits of exponent and one of mantissa, over 12. */
static const float fp4[16] = {0.0f, 0.0625f / 12, 8.0f / 12, 12.0f / 12, 4.0f / 12, 6.0f / 12, 2.0f / 12, 3.0f / 12, 0.0f, -0.0625f / 12, -8.0f / 12, -12.0f / 12, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12};

const float *cad_code_book(cad_code code)
{
    CAD_ASSERT(code == CAD_NF4 || code == CAD_FP4);
    return code == CAD_NF4 ? nf4 : fp4;
}

/* Everything that is computed once: the maps; of every grid point k / 32767.5 - 1 the code of the nearest value; midpoints of the books in order. */
static struct {
    float map[2][256];
    uint8_t nearest[2][65536];
    float middle[2][15];   /* NF4, FP4 */
    uint8_t pattern[2][16]; /* of the values in order */
} known;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* torch.linspace in fp32: from both ends towards the middle, rounded once. */
static float linspace(float from, float to, int steps, int i)
{
    float step = (to - from) / (float)(steps - 1);

    return i < steps / 2 ? fmaf(step, (float)i, from) : fmaf(-step, (float)(steps - 1 - i), to);
}

/* Seven decades, each cut twice as finely as the one below (Dettmers et al., 8-bit optimizers via block-wise quantization, section 2.1). */
static void make_map(bool is_signed, float *map)
{
    int n = 0;

    for (int i = 0; i < 7; i++) {
        int items = (is_signed ? 1 << i : 2 << i) + 1;
        float power = (float)pow(10, i - 6);
        for (int k = 0; k + 1 < items; k++) {
            float mean = (linspace(0.1f, 1, items, k) + linspace(0.1f, 1, items, k + 1)) / 2;
            map[n++] = power * mean;
            if (is_signed) map[n++] = -power * mean;
        }
    }
    map[n++] = 0;
    map[n++] = 1;
    CAD_ASSERT(n == 256);
    qsort(map, 256, sizeof *map, by_value);
}

static void make_nearest(const float *map, uint8_t *nearest)
{
    int code = 0;

    for (int k = 0; k < 65536; k++) {
        double x = k / 32767.5 - 1;
        while (code < 255 && fabs((double)map[code + 1] - x) < fabs((double)map[code] - x)) code++;
        nearest[k] = (uint8_t)code;
    }
}

/* Of the two zeros of FP4 pattern 0 comes first: it takes what lies below zero, 8 what lies above. */
static void make_middles(const float *book, float *middle, uint8_t *pattern)
{
    for (int i = 0; i < 16; i++) {
        int place = 0;
        for (int k = 0; k < 16; k++) place += book[k] < book[i] || (k < i && !(book[k] > book[i]));
        pattern[place] = (uint8_t)i;
    }
    for (int i = 0; i < 15; i++) middle[i] = (book[pattern[i]] + book[pattern[i + 1]]) / 2;
}

static void make_all(void)
{
    for (int s = 0; s < 2; s++) {
        make_map(s, known.map[s]);
        make_nearest(known.map[s], known.nearest[s]);
    }
    make_middles(nf4, known.middle[0], known.pattern[0]);
    make_middles(fp4, known.middle[1], known.pattern[1]);
}

const float *cad_dynamic_map(bool is_signed)
{
    pthread_once(&once, make_all);
    return known.map[is_signed];
}

const float *cad_code_middles(cad_code code)
{
    pthread_once(&once, make_all);
    return known.middle[code == CAD_FP4];
}

const uint8_t *cad_code_patterns(cad_code code)
{
    pthread_once(&once, make_all);
    return known.pattern[code == CAD_FP4];
}

/* ---- layout ---- */

cad_coded_layout cad_coded_layout_of(cad_code code, bool nested, int64_t rows, int64_t cols)
{
    cad_coded_layout l = {0};
    int64_t n = rows * cols;

    CAD_ASSERT(code != CAD_PLAIN && !(nested && code == CAD_INT8));
    l.blocks = code == CAD_INT8 ? rows : cad_ceil_div(n, CAD_QUANT_BLOCK);
    l.blocks2 = nested ? cad_ceil_div(l.blocks, CAD_SCALE_BLOCK) : 0;
    l.scales = cad_round_up(code == CAD_INT8 ? n : cad_ceil_div(n, 2), 64);
    l.scales2 = l.scales + cad_round_up(l.blocks * (nested ? 1 : 4), 64);
    l.offset = l.scales2 + cad_round_up(l.blocks2 * 4, 64);
    l.bytes = l.offset + (nested ? 64 : 0);
    return l;
}

/* ---- 4 bits ---- */

static float largest(const float *x, int64_t n)
{
    float top = 0;

    for (int64_t i = 0; i < n; i++) top = fmaxf(top, fabsf(x[i]));
    return top;
}

/* Number of midpoints below s: a tie goes to the lower value. */
static uint8_t code_of(float s, const float *middle, const uint8_t *pattern)
{
    int index = 0;

    for (int i = 0; i < 15; i++) index += middle[i] < s;
    return pattern[index];
}

/* A whole block is multiplied by the reciprocal, the last short one divided: each as bitsandbytes does it. */
static float scaled(float x, float top, bool whole)
{
    float s = whole ? x * (1 / fmaxf(top, 1e-38f)) : x / top;

    return fminf(fmaxf(s, -1), 1);
}

void cad_quantise_4bit(cad_code code, const float *x, int64_t n, uint8_t *codes, float *scales)
{
    const float *middle = cad_code_middles(code);
    const uint8_t *pattern = cad_code_patterns(code);

    for (int64_t b = 0; b * CAD_QUANT_BLOCK < n; b++) {
        int64_t from = b * CAD_QUANT_BLOCK, count = cad_min(CAD_QUANT_BLOCK, n - from);
        bool whole = count == CAD_QUANT_BLOCK;
        float top = largest(x + from, count);
        uint8_t c[CAD_QUANT_BLOCK + 1];
        if (!whole) top = fmaxf(top, 1e-38f);
        scales[b] = top;
        for (int64_t i = 0; i < count; i++) c[i] = code_of(scaled(x[from + i], top, whole), middle, pattern);
        if (count % 2) c[count] = code_of(0, middle, pattern);
        for (int64_t i = 0; i < count; i += 2) codes[(from + i) / 2] = (uint8_t)(c[i] << 4 | c[i + 1]);
    }
}

/* ---- 8 bits ---- */

float cad_int8_scale(const float *x, int64_t n)
{
    float top = 0;

    for (int64_t i = 0; i < n; i++) top = fmaxf(top, fabsf(cad_f16_to_f32(cad_f32_to_f16(x[i]))));
    return top;
}

void cad_quantise_int8(const float *x, int64_t n, float scale, int8_t *codes)
{
    float by = scale > 0 ? 1 / scale * 127 : 0;

    for (int64_t i = 0; i < n; i++) codes[i] = (int8_t)rintf(cad_f16_to_f32(cad_f32_to_f16(x[i])) * by);
}

static uint8_t nearest(const uint8_t *codes, float x)
{
    int k = (int)floorf((x + 1) * 32767.5f + 0.5f);

    return codes[cad_max(0, cad_min(k, 65535))];
}

uint8_t cad_dynamic_code(bool is_signed, float x)
{
    pthread_once(&once, make_all);
    return nearest(known.nearest[is_signed], x);
}

void cad_quantise_dynamic(bool is_signed, const float *x, int64_t n, uint8_t *codes, float *scales)
{
    pthread_once(&once, make_all);
    for (int64_t from = 0; from < n; from += CAD_SCALE_BLOCK) {
        int64_t count = cad_min(CAD_SCALE_BLOCK, n - from);
        float top = largest(x + from, count);
        scales[from / CAD_SCALE_BLOCK] = top;
        for (int64_t i = from; i < from + count; i++) codes[i] = top > 0 ? nearest(known.nearest[is_signed], x[i] / top) : 0;
    }
}

float cad_mean_scale(const float *scales, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) sum += (double)scales[i];
    return (float)(sum / (double)cad_max(n, 1));
}

void cad_nest_scales(const float *scales, int64_t n, float offset, uint8_t *codes, float *scales2)
{
    float less[CAD_SCALE_BLOCK];

    for (int64_t from = 0; from < n; from += CAD_SCALE_BLOCK) {
        int64_t count = cad_min(CAD_SCALE_BLOCK, n - from);
        for (int64_t i = 0; i < count; i++) less[i] = scales[from + i] - offset;
        cad_quantise_dynamic(true, less, count, codes + from, scales2 + from / CAD_SCALE_BLOCK);
    }
}
