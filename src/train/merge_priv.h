/* merge.c: an adapter folded into its base. */
#ifndef CADP_MERGE_PRIV_H
#define CADP_MERGE_PRIV_H
#include "keep_priv.h"

/* A whole classifier directory into `to` (which is there and empty): W + s B A in double precision, stored as the base stores W. */
CAD_CHECKED cad_status cadp_merge(const cad_options *o, const char *adapter_dir, const char *to);
/* export_gguf.c: the whole model in `source`, or with `merge` the adapter there folded in, as model-f16.gguf or model-q8_0.gguf in `to`. */
CAD_CHECKED cad_status cadp_export_gguf(const cad_options *o, const char *source, const char *to, const char *kind, bool merge);
#endif
