/* merge.c: an adapter folded into its base. */
#ifndef CADP_MERGE_PRIV_H
#define CADP_MERGE_PRIV_H
#include "keep_priv.h"

/* export_gguf.c: the whole model in `source`, or (how) the adapter there folded in, as model-f16.gguf or model-q8_0.gguf in `to`. */
CAD_CHECKED cad_status cadp_export_gguf(const cad_options *o, const char *source, const char *to, const char *kind, cad_merge how);
/* A whole classifier directory into `to` (which is there and empty): W + s B A in double precision, stored as the base stores W. A base that was held
 * as codes in training: W is what the codes meant (or, CAD_MERGE_ORIGINAL, what they were made from), and the largest difference of logits is told. */
CAD_CHECKED cad_status cadp_merge(const cad_options *o, const char *adapter_dir, const char *to, cad_merge how);

/* probe.c: the largest difference between the logits of two models, and the largest logit of the first, on made-up sequences. */
typedef struct cadp_probed { const cad_arch *arch; const cad_method *method; const char *dir, *adapter_dir; } cadp_probed;
CAD_CHECKED cad_status cadp_probe(const cad_options *o, const cadp_probed *a, const cadp_probed *b, double *off, double *largest);

/* export_codes.c: a copy of a model directory whose linear weights are codes of 4 or 8 bits, as the options say. */
CAD_CHECKED cad_status cadp_write_codes(const cad_options *o, const char *from, const char *to);
#endif
