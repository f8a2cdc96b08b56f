/* fit.c: which settings fit, by plan. */
#ifndef CADP_FIT_PRIV_H
#define CADP_FIT_PRIV_H
#include "train_priv.h"

typedef struct cadp_place_to { const char *device; int threads, world; int64_t memory; } cadp_place_to; /* where a run is planned to be */
typedef struct cadp_setting { cad_method method; int64_t stage; int recompute; int64_t batch; } cadp_setting;
cadp_setting cadp_setting_of(const cad_run *r);
const char *cadp_recompute_name(int recompute);
const char *cadp_method_name(const cad_method *m); /* full, lora, qlora, lora8bit */
const char *cadp_size_text(char out[32], int64_t bytes); /* "7.45 GiB" */
CAD_CHECKED cad_status cadp_plan_with(const cad_run *r, const cadp_place_to *p, const cadp_setting *s, int64_t *total);
bool cadp_may_page(const cad_run *r); /* optim paged_… */
CAD_CHECKED cad_status cadp_decide_paging(cad_run *r, const cadp_place_to *p); /* r->pages: only with pages does it fit, or less badly */
/* Method x stage x recompute: as a list "alternatives", as a table. */
CAD_CHECKED cad_status cadp_put_alternatives(cad_run *r, const cadp_place_to *p, cad_json *j);
CAD_CHECKED cad_status cadp_print_alternatives(cad_run *r, const cadp_place_to *p);

/* memory_here.c: what is free on this node for one of so many ranks; and the least of any rank of any node (collective). */
int64_t cadp_memory_here(const cad_run *r, int ranks);
CAD_CHECKED cad_status cadp_memory_of_all(const cad_run *r, int64_t *out);
int64_t cadp_memory_left(const char *meminfo, const char *groups, const char *self); /* where the system's files lie */

/* plan_run.c: bytes of the device of the worst rank. */
CAD_CHECKED cad_status cadp_plan_total(const cad_run *r, const char *device, int threads, int world, int64_t *total);
/* setup.c */
void cadp_lora_from_options(const cad_options *o, cad_method *m);
#endif
