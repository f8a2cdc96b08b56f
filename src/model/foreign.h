/* Models in a GGUF file: configs/gguf/architectures.yaml says how they are called there. */
#ifndef CADP_FOREIGN_H
#define CADP_FOREIGN_H
#include <cadtrain/model.h>

typedef struct cadp_foreign {
    cad_tree *table;
    const cad_node *arch; /* the row of this file */
    cad_gguf *file;
    const char *path;
    int64_t q_heads, kv_heads;
} cadp_foreign;
/* Reads the head of a GGUF file and finds its architecture. */
CAD_CHECKED cad_status cadp_foreign_open(cadp_foreign *f, const char *path);
void cadp_foreign_close(cadp_foreign *f);
/* The metadata as a config.json of transformers 4. */
CAD_CHECKED cad_status cadp_foreign_config(const cadp_foreign *f, cad_str *out);
/* cad_gguf_rename with a cadp_foreign. */
CAD_CHECKED cad_status cadp_foreign_rename(void *with, cad_st_tensor *t, char *name, size_t room);
/* "ARCH.KEY"; false: not there. */
bool cadp_foreign_get(const cadp_foreign *f, const char *key, cad_gguf_value *out);
CAD_CHECKED cad_status cadp_foreign_table(cad_tree **out);
/* Divisors of the frequencies of a rotation in bands, as llama.cpp's converter computes them. */
void cadp_foreign_divisors(const cad_rope_spec *s, int64_t pairs, float *out);
/* tokenizer.ggml.* of the tokenizer at `dir`, for a table of `rows` words (gguf_tokens.c). */
CAD_CHECKED cad_status cadp_foreign_put_tokens(cad_gguf_writer *w, const char *dir, int64_t rows, const cad_node *config);
/* The keys of both forms that mean the same. */
typedef struct cadp_foreign_key { const char *stored, *config; cad_kind kind; bool needed; } cadp_foreign_key;
extern const cadp_foreign_key cadp_foreign_keys[]; /* ends with stored NULL */
#endif
