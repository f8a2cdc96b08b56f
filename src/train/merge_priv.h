/* merge.c: an adapter folded into its base. */
#ifndef CADP_MERGE_PRIV_H
#define CADP_MERGE_PRIV_H
#include "keep_priv.h"

/* A whole classifier directory into `to` (which is there and empty): W + s B A in double precision, stored as the base stores W. */
CAD_CHECKED cad_status cadp_merge(const cad_options *o, const char *adapter_dir, const char *to);
#endif
