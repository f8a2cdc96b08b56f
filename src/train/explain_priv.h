/* What the files of `explain` share: explain.c computes, explained.c knows the fields and writes. */
#ifndef CADP_EXPLAIN_PRIV_H
#define CADP_EXPLAIN_PRIV_H
#include "train_priv.h"

#include <cadtrain/cohort.h>

typedef struct cadp_sums { int64_t records; double removed, removed_abs, gradients, gradients_abs; } cadp_sums;
typedef struct cadp_explained {
    cad_record_fields *wording;   /* of fields.yaml */
    cad_map *number;              /* name -> field */
    char **name;
    int fields, room, known;      /* known: fields of fields.yaml; beyond: words before a colon, of records that are worded otherwise */
    int *field_of_term;           /* [terms]: the field that a column beside the text says too; offset: the last */
    float *difference;            /* [terms]: weight of label 1 - of label 0 */
    int terms;
    double offset_mean;
    cadp_sums *sum;               /* [fields] */
    int64_t records, incomplete;
    double worst;                 /* |sum - difference| of log-odds */
    cad_str lines;                /* explanations.jsonl */
} cadp_explained;
/* Of one record, by field: what its removal takes from the log-odds, what the integral gives to it. */
typedef struct cadp_record_explained {
    double logit, baseline, off, other, *removed, *gradients;
    bool *present, complete;
    int nodes, room;
} cadp_record_explained;

CAD_CHECKED cad_status cadp_explained_open(cadp_explained *e, cad_run *r);
void cadp_explained_close(cadp_explained *e);
/* Spans by the wording of fields.yaml; where it says less than a third of this text, its clauses. New names may be added to e. */
CAD_CHECKED cad_status cadp_explain_split(cadp_explained *e, const char *text, size_t n, cad_span *out, int most, int *count);
CAD_CHECKED cad_status cadp_explained_clear(const cadp_explained *e, cadp_record_explained *one);
void cadp_record_explained_close(cadp_record_explained *one);
/* Puts the columns of `field` at their means; field -1: none. */
void cadp_explain_neutral(const cadp_explained *e, int field, float *beside);
/* Adds what columns and score contribute (they are linear), and takes it into both ends. */
void cadp_explain_columns(const cadp_explained *e, const float *beside, cadp_record_explained *one);
CAD_CHECKED cad_status cadp_explained_add(cadp_explained *e, int64_t row, const cadp_record_explained *one);
CAD_CHECKED cad_status cadp_explained_write(const cadp_explained *e, const char *dir);
CAD_CHECKED cad_status cadp_explain_walk(cad_run *s, const cad_batch *b); /* for the plan: a forward and a backward */
#endif
