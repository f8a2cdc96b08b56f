/* What the files of tensors share; nobody outside src/format sees it. */
#ifndef CADTRAIN_ST_PRIV_H
#define CADTRAIN_ST_PRIV_H
#include "tree_priv.h"

bool cadp_dtype_find(cad_dtype *out, const char *name);
/* n elements of F32, BF16, F16 or F64, aligned or not, as fp32. */
void cadp_to_f32(cad_dtype d, const void *bytes, int64_t n, float *out);

/* ---- files in memory (mapping.c) ---- */

typedef struct cadp_mapping { void *bytes; size_t size; } cadp_mapping;
/* With `dir` no link may lead out of it. `what` names the kind of file when there is too little of it. */
CAD_CHECKED cad_status cadp_map_file(cadp_mapping *m, const char *dir, const char *path, const char *what);
void cadp_unmap(cadp_mapping *m);

/* ---- safetensors ---- */

typedef struct cadp_header {
    cad_st_tensor *tensors; /* by place in the file; names lie in `names`, data in the file's bytes */
    int count;
    char *names;
} cadp_header;
/* Reads the header of one safetensors file of `size` bytes. `seen` maps each tensor met so far to its file's number. */
CAD_CHECKED cad_status cadp_st_header(cadp_header *out, cad_map *seen, int file, const char *path, const void *bytes, size_t size);
void cadp_st_header_close(cadp_header *h);

/* The files a path stands for, in order, and for an index the file of each tensor. */
typedef struct cadp_listing {
    char *dir;      /* NULL: the path is a file itself */
    char **paths;
    int count;
    char *index;    /* path of the index, else NULL */
    cad_tree *tree; /* with an index: what it holds */
    cad_map *map;   /* with an index: tensor -> file */
} cadp_listing;
CAD_CHECKED cad_status cadp_st_list(cadp_listing *out, const char *path);
void cadp_st_listing_close(cadp_listing *l);

/* ---- blocks of quantised values (blocks_gguf.c) ---- */

/* Values a block holds and bytes it takes; 1 and 0 for CAD_PACK_NONE. */
int64_t cadp_pack_elems(cad_pack pack);
size_t cadp_pack_bytes(cad_pack pack);
const char *cadp_pack_name(cad_pack pack);
/* Values [from, from + n) of a row of blocks. */
void cadp_unpack_values(cad_pack pack, const void *blocks, int64_t from, int64_t n, float *out);
/* Blocks of 32 values as Q8_0; n is a multiple of 32. */
void cadp_pack_q8_0(const float *x, int64_t n, unsigned char *out);
#endif
