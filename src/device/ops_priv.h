/* A call described: every tensor with its name, use and what it must be. The front door checks the description, the checking
 * backend walks it. One describe function per operation (ops_*.c) is all that is specific. */
#ifndef CADP_OPS_PRIV_H
#define CADP_OPS_PRIV_H
#include "device_priv.h"

typedef enum cadp_use { CADP_READ = 1, CADP_WRITE = 2, CADP_UPDATE = 3 } cadp_use;

typedef struct cadp_arg {
    const char *name;
    const char *twin; /* may be the very view of this argument, else NULL */
    cad_tensor t;
    cadp_use use;
    unsigned dtypes;  /* bits 1 << cad_dtype */
    int64_t rows, cols;
} cadp_arg;

enum { CADP_MAX_ARGS = 16 };
typedef struct cadp_call {
    const char *op;
    int n;
    cadp_arg args[CADP_MAX_ARGS];
    const cad_packing *packing; /* or NULL */
    bool mixed;                 /* F64 beside other real dtypes is meant */
    double flops;
} cadp_call;

enum { /* sets of dtypes; what is in a set of several is "real" */
    CADP_REAL = 1 << CAD_F32 | 1 << CAD_BF16 | 1 << CAD_F64,
    CADP_WIDE = 1 << CAD_F32 | 1 << CAD_F64,
    CADP_F32 = 1 << CAD_F32, CADP_BF16 = 1 << CAD_BF16, CADP_F64 = 1 << CAD_F64, CADP_I32 = 1 << CAD_I32, CADP_I64 = 1 << CAD_I64,
    CADP_U8 = 1 << CAD_U8, CADP_I8 = 1 << CAD_I8
};

void cadp_read(cadp_call *c, const char *name, cad_tensor t, unsigned dtypes, int64_t rows, int64_t cols);
void cadp_write(cadp_call *c, const char *name, cad_tensor t, unsigned dtypes, int64_t rows, int64_t cols);
void cadp_update(cadp_call *c, const char *name, cad_tensor t, unsigned dtypes, int64_t rows, int64_t cols);
/* The argument added last may be the memory of `name`. */
void cadp_twin(cadp_call *c, const char *name);
/* The parts of a matrix of codes [rows, cols]. */
CAD_CHECKED cad_status cadp_coded(cadp_call *c, const cad_coded *q, cadp_use use, int64_t rows, int64_t cols);
/* Same dtype as t, of the set. */
unsigned cadp_as(cad_tensor t, unsigned dtypes);
/* A scalar or a relation that does not hold: "op: expected WHAT, found VALUE". */
CAD_CHECKED cad_status cadp_need(const cadp_call *c, bool holds, const char *what, double found);
/* starts (and ids, each in [0, ids_below), where ids_below > 0) are sound; adds the device's arrays to the arguments. */
CAD_CHECKED cad_status cadp_packing(cadp_call *c, const cad_packing *p, int64_t ids_below);
/* Bytes from the first to behind the last element of a view; 0 when it is empty. */
int64_t cadp_extent(cad_tensor t);
bool cadp_overlap(cad_tensor a, cad_tensor b);
/* Shapes, dtypes, places and aliases of all arguments. */
CAD_CHECKED cad_status cadp_admit(const cad_device *d, const cadp_call *c);

#define CADP_DESCRIBE(op, args) CAD_CHECKED cad_status cadp_describe_##op(cadp_call *c, const args *x);
CADP_OPS(CADP_DESCRIBE)
#undef CADP_DESCRIBE
#endif
