/* What the safetensors files share; nobody outside src/format sees it. */
#ifndef CADTRAIN_ST_PRIV_H
#define CADTRAIN_ST_PRIV_H
#include "tree_priv.h"

bool cadp_dtype_find(cad_dtype *out, const char *name);
/* n elements of F32, BF16, F16 or F64, aligned or not, as fp32. */
void cadp_to_f32(cad_dtype d, const void *bytes, int64_t n, float *out);

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
#endif
