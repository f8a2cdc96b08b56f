/* What the files of GGUF share. */
#ifndef CADTRAIN_GGUF_PRIV_H
#define CADTRAIN_GGUF_PRIV_H
#include "st_priv.h"

typedef enum cadp_gguf_type {
    CADP_GGUF_U8, CADP_GGUF_I8, CADP_GGUF_U16, CADP_GGUF_I16, CADP_GGUF_U32, CADP_GGUF_I32, CADP_GGUF_F32, CADP_GGUF_BOOL, CADP_GGUF_STRING,
    CADP_GGUF_LIST, CADP_GGUF_U64, CADP_GGUF_I64, CADP_GGUF_F64, CADP_GGUF_TYPES
} cadp_gguf_type;
enum { CADP_GGUF_ALIGNMENT = 32 };

/* The head of one file. Keys and names lie in the file; the tensors' names are copied into `names`, NUL-terminated. */
typedef struct cadp_gguf_entry { cad_gguf_value value; const char **strings; } cadp_gguf_entry; /* strings: where each text of a list begins */
typedef struct cadp_gguf_head {
    cadp_gguf_entry *entries;
    int64_t entry_count;
    cad_map *keys;          /* key -> entry */
    cad_st_tensor *tensors;
    int count;
    char *names;
} cadp_gguf_head;
/* `seen`: names of tensors of all files so far. */
CAD_CHECKED cad_status cadp_gguf_head_read(cadp_gguf_head *out, cad_map *seen, int file, const char *path, const void *bytes, size_t size);
void cadp_gguf_head_close(cadp_gguf_head *h);
bool cadp_gguf_get(const cadp_gguf_head *h, const char *key, cad_gguf_value *out);

#endif
