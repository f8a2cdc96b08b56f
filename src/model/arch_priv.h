/* What reading an architecture needs at hand: the family's row, the configuration (the text part of a nested one), and where it stands for the sentences. */
#ifndef CADP_ARCH_PRIV_H
#define CADP_ARCH_PRIV_H
#include <cadtrain/model.h>

typedef struct cadp_reader { const cad_node *family, *outer, *config; const char *path; } cadp_reader;

CAD_CHECKED cad_status cadp_bad_type(const cadp_reader *r, const char *key, const char *expected);
/* A number of config.json, or what the family says it means when it is absent; `needed` without either is an error. */
CAD_CHECKED cad_status cadp_number(const cadp_reader *r, const char *key, double *out, double otherwise, bool needed);
/* The same where null means "none": 0. */
CAD_CHECKED cad_status cadp_number_or_none(const cadp_reader *r, const char *key, double *out);
CAD_CHECKED cad_status cadp_whole(const cadp_reader *r, const char *key, int64_t *out, double otherwise, int64_t least, int64_t most);
/* true, false, or a number that is not 0. */
CAD_CHECKED cad_status cadp_truth(const cadp_reader *r, const char *key, bool *out, bool otherwise);
/* A word of the family's `block`; `otherwise` where it says nothing. */
const char *cadp_block_word(const cadp_reader *r, const char *name, const char *otherwise);

/* arch_layers.c: what differs from layer to layer. After the sizes. */
CAD_CHECKED cad_status cadp_read_layers(cad_arch *a, const cadp_reader *r);
#endif
