/* One table of cases for all operations, run on any device given by name. */
#ifndef TEST_OPS_H
#define TEST_OPS_H
#include <cadtrain/device.h>

enum { OPS_SLOTS = 12, OPS_LENGTHS = 8 };

typedef enum ops_use { OPS_IN, OPS_OUT, OPS_INOUT } ops_use;
/* How a slot is filled; OPS_MADE: by the case's forward operation. */
typedef enum ops_fill { OPS_NORMAL, OPS_MADE, OPS_SQUARES, OPS_COSINE, OPS_SINE, OPS_LABELS, OPS_WORDS, OPS_WILD, OPS_ROWS, OPS_STARTS, OPS_BYTES, OPS_PLACES } ops_fill;
typedef struct ops_slot {
    const char *name;
    cad_dtype dtype;
    int64_t rows, cols;
    ops_use use;
    ops_fill fill;
    bool fixed;  /* keeps its dtype where everything real becomes F64 */
    bool exact;  /* no rounding is excused */
    bool dense;  /* no gap between rows */
    int twin;    /* 1 + the slot whose memory it shares */
} ops_slot;

typedef struct ops_sheet {
    int n;
    ops_slot slot[OPS_SLOTS];
    cad_tensor t[OPS_SLOTS];
    double *value[OPS_SLOTS]; /* rows x cols; 64-bit integers bit by bit */
    void *base[OPS_SLOTS];    /* device memory that holds the view and a rim round it */
    unsigned char *image[OPS_SLOTS]; /* its bytes on the host */
    cad_packing packing;
    int32_t *ids;
    void *starts_dev, *ids_dev;
} ops_sheet;

enum {
    TA = 1, TB = 2, TA2 = 4, TB2 = 8, BIAS = 16, ADD = 32, ADDW = 64, PLUS1 = 128, CAUSAL = 256, PAIRS = 512, INVERSE = 1024,
    TWIN = 2048, MORE = 4096, GRAD = 8192 /* also against differences */
};

typedef struct ops_case ops_case;
typedef struct ops_op {
    const char *name;
    void (*fill)(const ops_case *c, ops_sheet *s);
    cad_status (*call)(cad_device *d, const ops_case *c, const ops_sheet *s);
    cad_status (*forward)(cad_device *d, const ops_case *c, const ops_sheet *s); /* of a backward operation */
    bool rounds_terms; /* products of bf16 data may round their factors (probabilities) to bf16 */
} ops_op;
struct ops_case {
    const ops_op *op;
    int64_t m, n, k, k2; /* rows, columns, terms */
    cad_dtype in, out;
    int flags, kind;
    double alpha, beta, alpha2;
    int64_t head, heads, kv, window;
    double softcap;
    int32_t length[OPS_LENGTHS];
    int64_t terms; /* summed for one result */
};

extern const ops_case ops_table[];
extern const int ops_cases;

/* Elements after each row that nobody may touch: 3, so that rows lie at odd places; 8, so that they may be read sixteen bytes at a time. */
extern int ops_rim;
/* Rows of one operation only, where it is not NULL. */
extern const char *ops_only;

/* Slot by name; it must be there. */
cad_tensor ops_t(const ops_sheet *s, const char *name);
void ops_add(ops_sheet *s, ops_slot slot);
const char *ops_describe(const ops_case *c, int row);

/* Fills a sheet with the case's values, or with those of another sheet of the case; doubles: everything real is F64. */
void ops_sheet_open(ops_sheet *s, const ops_case *c, bool doubles, const ops_sheet *like);
void ops_sheet_close(ops_sheet *s);
/* Runs `what` on a device: values go in, values come out. Prints and returns false when it fails, writes where it must not,
 * or counts otherwise than the plan. */
bool ops_run(ops_sheet *s, const ops_case *c, const char *device, int threads, cad_status (*what)(cad_device *, const ops_case *, const ops_sheet *));

/* Number of rows that fail; each prints why. */
int ops_against_doubles(const char *device, int threads);
int ops_against_differences(void);
int ops_same_bits(const char *device);
/* Bits with and without a variable of the environment. */
int ops_same_bits_where(const char *device, const char *variable, const char *value);
#endif
