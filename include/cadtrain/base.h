/* base: status and reason, memory, numbers, random numbers, strings, log. libc only.
 *
 * Every function that can fail returns a cad_status. Zero is success; the other values are the exit codes of
 * the program, so that a failure keeps its kind from the place where it happens to the shell. */
#ifndef CADTRAIN_BASE_H
#define CADTRAIN_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CAD_CHECKED __attribute__((warn_unused_result))
#define CAD_PRINTF(f, a) __attribute__((format(printf, f, a)))

typedef enum cad_status {
    CAD_OK = 0,
    CAD_EUSAGE = 2,      /* command line or configuration, before any work */
    CAD_EDATA = 3,       /* records, prediction files */
    CAD_EMODEL = 4,      /* model directory, weights, tokenizer, adapter */
    CAD_ECHECKPOINT = 5, /* our own checkpoints */
    CAD_ERESOURCE = 6,   /* memory, disk, permissions, device */
    CAD_EINTERNAL = 70,  /* a wrong program, NaN in the numbers */
    CAD_ESTOPPED = 75,   /* a signal or the wall clock; a checkpoint is written */
    CAD_EPEER = 76,      /* another rank failed; it has the reason */
    CAD_EWATCHDOG = 124
} cad_status;

/* ---- status and reason (fail.c) ---- */

/* Sets this thread's reason unless one is set (the innermost caller knows most) and returns `status`. */
cad_status cad_fail(cad_status status, const char *format, ...) CAD_PRINTF(2, 3);
/* Adds a line of advice, printed after the reason. At most two are kept. */
void cad_advise(const char *format, ...) CAD_PRINTF(1, 2);
/* The reason of this thread ("" if none) and its lines of advice ("" if none); borrowed until cad_clear. */
const char *cad_reason(void);
const char *cad_advice(void);
void cad_clear(void);
/* Passes a failure up. */
#define CAD_TRY(call)                                     \
    do {                                                  \
        cad_status cad_try_status_ = (call);              \
        if (cad_try_status_) return cad_try_status_;      \
    } while (0)
/* A wrong program (never wrong input): prints the place and aborts. */
#define CAD_ASSERT(x) ((x) ? (void)0 : cad_broken(#x, __FILE__, __LINE__))
__attribute__((noreturn)) void cad_broken(const char *what, const char *file, int line);

/* ---- memory (mem.c) ---- */

/* `out` is the address of a pointer. n * each bytes, zeroed, 64-byte aligned; `what` names it in the reason.
 * CAD_ERESOURCE when there is none or n * each overflows. n == 0 gives a valid pointer. */
CAD_CHECKED cad_status cad_alloc(void *out, size_t n, size_t each, const char *what);
/* Grows *inout (NULL allowed) to n * each bytes; old content stays, the rest is undefined. */
CAD_CHECKED cad_status cad_grow(void *inout, size_t n, size_t each, const char *what);
/* Frees *inout and sets it to NULL; NULL allowed. */
void cad_free(void *inout);
CAD_CHECKED cad_status cad_strdup(char **out, const char *s);
int64_t cad_mem_blocks(void); /* blocks alive */
int64_t cad_mem_calls(void);  /* allocations made since the start */
int64_t cad_mem_bytes(void);  /* bytes alive */
int64_t cad_mem_peak(void);
void cad_mem_fail_at(int64_t nth); /* tests: the nth allocation from now fails; 0 switches off */

/* ---- growable bytes (str.c) ---- */

typedef struct cad_str { char *data; size_t size, room; } cad_str; /* {0} is empty; data is NUL-terminated once used */
CAD_CHECKED cad_status cad_str_add(cad_str *s, const void *bytes, size_t n);
CAD_CHECKED cad_status cad_str_addf(cad_str *s, const char *format, ...) CAD_PRINTF(2, 3);
void cad_str_close(cad_str *s);
/* Levenshtein distance with transpositions counted as one; -1 and '_' are equal. */
int cad_edit_distance(const char *a, const char *b);
/* The nearest of the names offered: begin with {.wanted = x}; what differs in more than two of five characters is not near and never shown. */
typedef struct cad_near { const char *wanted; char best[96], hint[128]; int cost; bool found; } cad_near;
void cad_near_offer(cad_near *near, const char *name);
/* "; did you mean "NAME"?" or "". `before`: "--" of a flag. */
const char *cad_near_hint(cad_near *near, const char *before);
bool cad_utf8_valid(const char *s, size_t n, size_t *bad_at);

/* ---- string-keyed table (map.c) ---- */

typedef struct cad_map cad_map; /* string -> int64 */
CAD_CHECKED cad_status cad_map_open(cad_map **out);
void cad_map_close(cad_map **m);
/* Keys are copied. Replaces; *had says whether the key was there (had may be NULL). */
CAD_CHECKED cad_status cad_map_set(cad_map *m, const char *key, size_t n, int64_t value, bool *had);
bool cad_map_get(const cad_map *m, const char *key, size_t n, int64_t *value);

/* ---- numbers (inline) ---- */

static inline int64_t cad_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t cad_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t cad_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t cad_round_up(int64_t a, int64_t to) { return cad_ceil_div(a, to) * to; }
static inline bool cad_mul_ok(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }

static inline float cad_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t cad_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
float cad_f16_to_f32(uint16_t h);
uint16_t cad_f32_to_f16(float f);

/* ---- random numbers: pure functions of (seed, purpose, index) (rng.c) ---- */

typedef enum cad_purpose {
    CAD_RNG_INIT = 1, CAD_RNG_DROPOUT = 2, CAD_RNG_SYNTH = 3, CAD_RNG_BOOTSTRAP = 4, CAD_RNG_TEST = 5, CAD_RNG_SAMPLE = 6
} cad_purpose;
/* Philox4x32-10 (Salmon et al., SC'11): key = seed, counter = (index, site, purpose). Four independent words. */
void cad_rng_words(uint64_t seed, cad_purpose purpose, uint32_t site, uint64_t index, uint32_t out[4]);
double cad_rng_uniform(uint64_t seed, cad_purpose purpose, uint32_t site, uint64_t index); /* [0, 1) */
double cad_rng_normal(uint64_t seed, cad_purpose purpose, uint32_t site, uint64_t index);  /* mean 0, sd 1 */

/* ---- files and time (path.c) ---- */

CAD_CHECKED cad_status cad_path_join(char **out, const char *dir, const char *name); /* absolute name wins */
/* Directories 0700, with parents. */
CAD_CHECKED cad_status cad_mkdirs(const char *path);
bool cad_is_dir(const char *path);
bool cad_is_file(const char *path);
/* Whole file into memory, NUL-terminated after *size bytes. `kind` is the status on failure (CAD_EMODEL, …). */
CAD_CHECKED cad_status cad_read_file(char **out, size_t *size, const char *path, size_t limit, cad_status kind);
/* Writes aside (0600, O_EXCL|O_NOFOLLOW), fsyncs, renames over `path`, fsyncs the folder. CAD_ERESOURCE on a full disk;
 * an earlier file stays untouched on any failure. */
CAD_CHECKED cad_status cad_write_file(const char *path, const void *bytes, size_t n);
CAD_CHECKED cad_status cad_copy_file(const char *from, const char *to);
/* Removes a folder and what is in it (never follows links). */
CAD_CHECKED cad_status cad_remove_tree(const char *path);
CAD_CHECKED cad_status cad_fsync_dir(const char *path);
/* fsync of a written folder's files and itself, then rename(from, to) and fsync of the parent. */
CAD_CHECKED cad_status cad_publish_dir(const char *from, const char *to);
/* CAD_ERESOURCE with a sentence when the file system of `dir` has fewer than `bytes` free. */
CAD_CHECKED cad_status cad_need_space(const char *dir, int64_t bytes);
double cad_now(void); /* monotonic seconds */

/* ---- digests (hash.c) ---- */

typedef struct cad_sha256 { uint32_t h[8]; uint64_t bytes; uint8_t block[64]; size_t fill; } cad_sha256;
void cad_sha256_begin(cad_sha256 *s);
void cad_sha256_add(cad_sha256 *s, const void *bytes, size_t n);
void cad_sha256_end(cad_sha256 *s, char hex[65]);
CAD_CHECKED cad_status cad_sha256_file(const char *path, char hex[65], cad_status kind);
uint32_t cad_crc32c(uint32_t crc, const void *bytes, size_t n); /* start with 0 */

/* ---- log (log.c): stderr lines; rank 0 talks, warnings of every rank are counted ---- */

typedef enum cad_level { CAD_LOG_ERROR, CAD_LOG_WARNING, CAD_LOG_INFO, CAD_LOG_DEBUG } cad_level;
void cad_log_setup(int rank, int ranks, cad_level level);
cad_level cad_log_level(void);
/* To standard output, at once. It waits for a reader that is slow; once `stop` says so (cad_print_while) it drops the text instead: mpirun stops
 * reading while it ends a job, and a full pipe must not keep a rank from writing its checkpoint. */
void cad_print(const char *text);
void cad_print_while(int (*stop)(void)); /* NULL: always waits */
void cad_info(const char *format, ...) CAD_PRINTF(1, 2);
void cad_debug(const char *format, ...) CAD_PRINTF(1, 2);
/* "cadtrain: warning: …"; after ten of one `kind` one line says that more follow. */
void cad_warn(const char *kind, const char *format, ...) CAD_PRINTF(2, 3);
/* "cadtrain: error: …" with the rank when there are several, then the advice. */
void cad_print_failure(void);

#ifdef __cplusplus
}
#endif
#endif
