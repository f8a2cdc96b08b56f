/* Shared by the files of this room only. */
#ifndef CADTRAIN_DATA_PRIV_H
#define CADTRAIN_DATA_PRIV_H
#include <cadtrain/data.h>

/* ---- numpy's default generator (numpy_random.c) ---- */
__extension__ typedef unsigned __int128 cadp_u128;
typedef struct cadp_pcg { cadp_u128 state, inc; uint32_t half; bool has_half; } cadp_pcg;
void cadp_pcg_seed(cadp_pcg *g, uint64_t seed);         /* numpy.random.default_rng(seed) */
uint32_t cadp_pcg_next32(cadp_pcg *g);
uint32_t cadp_pcg_below(cadp_pcg *g, uint32_t n);       /* Generator.integers(n): Lemire's method; n >= 1 */
void cadp_pcg_shuffle(cadp_pcg *g, int64_t *rows, int64_t n); /* in place: rows[permutation(n)] */

/* ---- order of one epoch (sampler.c) ---- */
typedef struct cadp_length { int32_t tokens; int64_t at, row; } cadp_length;
int64_t cadp_mega_batch(int64_t rows, int64_t batch);
/* Transformers' get_length_grouped_indices: draws rows - 1 numbers; scratch has room for cadp_mega_batch(rows, batch). */
void cadp_group_by_length(cad_mt *m, const int32_t *lengths, int64_t rows, int64_t batch, int64_t *out, cadp_length *scratch);

/* ---- texts made of several columns, or of conversations (texts.c) ---- */
CAD_CHECKED cad_status cadp_no_column(const cad_rows *r, const char *name); /* dataset.c: fails with the nearest name */
CAD_CHECKED cad_status cadp_wrong_cell(const cad_rows *r, int64_t i, int column, const char *wanted);      /* fails with what was found instead */
CAD_CHECKED cad_status cadp_encode_form(const cad_tokenizer *t, const cad_dataset_options *o, cad_dataset *d); /* ids, starts, cut, answers, given */

/* ---- token cache (token_cache.c) ---- */
/* A data set as one flat block of bytes: what the cache file holds is what is used. */
typedef struct cadp_flat { unsigned char *bytes; size_t size; bool mapped; } cadp_flat;
CAD_CHECKED cad_status cadp_flat_make(cadp_flat *f, const cad_dataset *d);
/* Points labels, ids, starts, cut and count of d into f, after checking every rule (the file may be anything).
 * False: not such a block, or not of this digest; *why says what is wrong. */
bool cadp_flat_attach(const cadp_flat *f, const char *digest, cad_dataset *d, const char **why);
void cadp_flat_close(cadp_flat *f);
/* Maps the file; false when there is none. */
bool cadp_flat_map(cadp_flat *f, const char *path);
#endif
