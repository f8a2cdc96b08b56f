/* The files under configs/ as they were when the program was built. */
#ifndef CADTRAIN_EMBEDDED_H
#define CADTRAIN_EMBEDDED_H
typedef struct cad_embedded { const char *path, *text; } cad_embedded;
extern const cad_embedded cad_embedded_files[]; /* ends with {0, 0}; paths as "configs/families/llama.yaml" */
#endif
