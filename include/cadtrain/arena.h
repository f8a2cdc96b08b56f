/* arena: named parts of device memory, taken once before the first step. The rows are what `cadtrain plan` prints. */
#ifndef CADTRAIN_ARENA_H
#define CADTRAIN_ARENA_H
#include <cadtrain/device.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef enum cad_category {
    CAD_MEM_PARAMETERS, CAD_MEM_QUANTISATION, CAD_MEM_ADAPTERS, CAD_MEM_GRADIENTS, CAD_MEM_OPTIMIZER, CAD_MEM_ACTIVATIONS, CAD_MEM_WORK,
    CAD_MEM_COMMUNICATION, CAD_MEM_CATEGORIES
} cad_category;
const char *cad_category_name(cad_category c); /* "parameters", … as in plan --json */
typedef struct cad_arena_row { cad_category category; const char *name; int64_t bytes; void *data; } cad_arena_row;
typedef struct cad_arena { cad_device *device; cad_arena_row *rows; int count, room; int64_t total[CAD_MEM_CATEGORIES]; } cad_arena;
/* `arena` starts as {.device = d}. bytes 0 gives NULL. `name` must be a constant string. Contents are undefined until written. */
CAD_CHECKED cad_status cad_arena_take(cad_arena *a, cad_category category, const char *name, int64_t bytes, void *out);
/* Counts `bytes` of the part taken last under another category. */
void cad_arena_share(cad_arena *a, cad_category category, int64_t bytes);
CAD_CHECKED cad_status cad_arena_tensor(cad_arena *a, cad_category category, const char *name, cad_dtype dtype, int64_t rows, int64_t cols, cad_tensor *out);
void cad_arena_close(cad_arena *a); /* frees every part */
#ifdef __cplusplus
}
#endif
#endif
