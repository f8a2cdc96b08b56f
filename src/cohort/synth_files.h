/* Dialects and tables of the generator. */
#ifndef CADTRAIN_SYNTH_FILES_H
#define CADTRAIN_SYNTH_FILES_H
#include "synth_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum { CADP_BASKETS = 5, CADP_RECORDS = 5 };
enum { CADP_HEAD_DASH, CADP_HEAD_R, CADP_HEAD_RAP, CADP_HEAD_ENTITY, CADP_HEAD_TITLE };
enum { CADP_LIST_WIDE, CADP_LIST_JSON, CADP_LIST_BAR };
typedef struct cadp_dialect { const char *name; char delimiter; bool quote_all; int head; bool labels; const char *missing; int list; const char *ending; } cadp_dialect;
extern const cadp_dialect cadp_dialects[]; /* ends with {0} */
void cadp_put_header(FILE *f, const cadp_dictionary *d, const cadp_dialect *w, int basket, int64_t padding);
void cadp_put_row(FILE *f, const cadp_dictionary *d, const cadp_dialect *w, int basket, int64_t padding, const cadp_made *p);
void cadp_put_record_headers(FILE *const f[CADP_RECORDS]); /* hesin, hesin_diag, hesin_oper, death, death_cause */
void cadp_put_records(FILE *const f[CADP_RECORDS], const cadp_made *p);
void cadp_day_text(char out[16], int32_t day, bool strokes); /* "" for CADP_NO_DAY; a placeholder for CADP_ODD_DAY */
#endif
