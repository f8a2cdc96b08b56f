/* quant: numbers held as codes of 4 or 8 bits with scales, bit for bit as bitsandbytes holds them. Plain functions on host memory: they define
 * what the operations of a device (device.h) and the files on disk mean.
 *
 * 4 bits (NF4, FP4): blocks of 64 elements of the flattened matrix, which cross rows; a value is book[code] * scale of its block in fp32. Two codes
 * a byte, the first in the high half. Nested: the fp32 scales are themselves codes of the signed 8-bit map in blocks of 256, less their mean.
 * INT8: a row of whole numbers up to 127 and the row's largest magnitude as its scale. */
#ifndef CADTRAIN_QUANT_H
#define CADTRAIN_QUANT_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef enum cad_code { CAD_PLAIN, CAD_NF4, CAD_FP4, CAD_INT8 } cad_code;
enum { CAD_QUANT_BLOCK = 64, CAD_SCALE_BLOCK = 256 };
const char *cad_code_name(cad_code code); /* "nf4", "fp4", "int8" */

/* 16 values by bit pattern. */
const float *cad_code_book(cad_code code);
/* The same in order: the 15 midpoints, and the bit pattern of each of the 16. A number between two midpoints, or on the upper one, has that code. */
const float *cad_code_middles(cad_code code);
const uint8_t *cad_code_patterns(cad_code code);
/* 256 values in order: for numbers of both signs, or (unsigned) for second moments. */
const float *cad_dynamic_map(bool is_signed);

/* Where the parts of a matrix of codes lie in one piece of memory, in bytes from its start; every part begins at a multiple of 64. scales: fp32, or
 * (nested) one byte each with scales2 (fp32) and offset (one fp32) behind them; without them those lengths are 0. */
typedef struct cad_coded_layout { int64_t blocks, blocks2, codes, scales, scales2, offset, bytes; } cad_coded_layout;
cad_coded_layout cad_coded_layout_of(cad_code code, bool nested, int64_t rows, int64_t cols);

/* n elements from the start of a block into (n + 1) / 2 bytes and ceil(n / 64) scales. A last block of fewer than 64 must be the matrix's own last. */
void cad_quantise_4bit(cad_code code, const float *x, int64_t n, uint8_t *codes, float *scales);
/* A row: its scale is the largest magnitude of fp16(x), its codes rint(fp16(x) * (1 / scale * 127)). */
float cad_int8_scale(const float *x, int64_t n);
void cad_quantise_int8(const float *x, int64_t n, float scale, int8_t *codes);
static inline float cad_int8_value(int8_t code, float scale) { return (float)code * (scale * (1.0f / 127.0f)); }
/* A product of two such codes is worth both scales times this: 1 / 127^2 but for a digit, as bitsandbytes has it. At most so many terms are summed. */
#define CAD_INT8_PRODUCT 6.200124e-05f
enum { CAD_INT8_TERMS = 0x7fffffff / (127 * 127) };
/* What LLM.int8() keeps out of a row's codes; NaN too. */
#define CAD_IS_OUTLIER(x, threshold) (!(fabsf(x) < (threshold)))

/* Blocks of 256 of a dynamic map: code of the grid point nearest to x / largest. A block of zeros has codes 0. */
void cad_quantise_dynamic(bool is_signed, const float *x, int64_t n, uint8_t *codes, float *scales);
uint8_t cad_dynamic_code(bool is_signed, float x); /* |x| <= 1 */
/* The mean of the scales, added in order in double, rounded once. */
float cad_mean_scale(const float *scales, int64_t n);
/* Scales to their codes: those of scales[i] - offset. */
void cad_nest_scales(const float *scales, int64_t n, float offset, uint8_t *codes, float *scales2);
static inline float cad_nested_scale(const float *map, uint8_t code, float scale2, float offset)
{
    float product = map[code] * scale2;

    return product + offset;
}

#ifdef __cplusplus
}
#endif
#endif
