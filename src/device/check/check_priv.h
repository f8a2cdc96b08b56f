/* check: memory with red zones and poison round another backend. */
#ifndef CADP_CHECK_PRIV_H
#define CADP_CHECK_PRIV_H
#include "../ops_priv.h"

/* Before and after each block. Its pattern is a NaN in every real dtype, and another one than the poison. */
enum { CADP_ZONE = 64 };
/* Every byte of fresh and freed memory: a NaN in every real dtype. An element of nothing else was never written. */
enum { CADP_POISON = 0xff };

/* A block freed a while ago; nobody may write there. */
typedef struct cadp_grave { char *at; int64_t bytes; char what[48]; } cadp_grave;
enum { CADP_GRAVES = 64, CADP_GRAVE_BYTES = 64 << 20 };
typedef struct cadp_check { cadp_grave graves[CADP_GRAVES]; int n; int64_t bytes; } cadp_check;

bool cadp_is_poison(const void *p, int64_t bytes);
void cadp_zones_fill(char *at, int64_t bytes);
CAD_CHECKED cad_status cadp_zones_check(const cad_device *d, const char *at, int64_t bytes, const char *what);
/* What is to be read was written; what is to be written is poisoned. */
CAD_CHECKED cad_status cadp_check_before(const cad_device *d, const cadp_call *c, void *work, int64_t work_bytes);
/* All that was to be written was, and nothing round it. */
CAD_CHECKED cad_status cadp_check_after(const cad_device *d, const cadp_call *c, const void *work, int64_t work_bytes);
#endif
