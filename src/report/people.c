#include "page_priv.h"

#include <stdlib.h>

static int falling(const void *a, const void *b)
{
    const struct cadp_one *x = a, *y = b;

    return (x->p < y->p) - (x->p > y->p);
}

cad_status cadp_people_open(cadp_people *out, const int32_t *labels, const double *prob1, int64_t n)
{
    *out = (cadp_people){.n = n};
    CAD_TRY(cad_alloc(&out->at, (size_t)n, sizeof *out->at, "ranked risks"));
    for (int64_t i = 0; i < n; i++) {
        out->at[i] = (struct cadp_one){prob1[i], labels[i]};
        out->events += labels[i];
    }
    qsort(out->at, (size_t)n, sizeof *out->at, falling);
    return CAD_OK;
}

void cadp_people_close(cadp_people *s) { cad_free(&s->at); }

static void join(cadp_group *into, const cadp_group *g)
{
    into->mean = (into->mean * (double)into->n + g->mean * (double)g->n) / (double)(into->n + g->n);
    into->n += g->n;
    into->events += g->events;
    into->low = g->low;
}

cad_status cadp_people_cut(cadp_group **out, int *count, const cadp_people *s, int most)
{
    int groups = (int)cad_min(most, s->n / CADP_FEW), k = 0;
    cadp_group *g = NULL, now = {0};
    double sum = 0;

    *out = NULL;
    *count = 0;
    if (!groups) return CAD_OK;
    CAD_TRY(cad_alloc(&g, (size_t)groups, sizeof *g, "risk groups"));
    for (int64_t i = 0; i < s->n; i++) {
        bool tied = i + 1 < s->n && s->at[i + 1].p == s->at[i].p;
        now.n++;
        now.events += s->at[i].label;
        sum += s->at[i].p;
        if (tied || (i + 1 < s->n && (i + 1 < (k + 1) * s->n / groups || now.n < CADP_FEW))) continue;
        now.mean = sum / (double)now.n;
        now.low = s->at[i].p;
        if (now.n < CADP_FEW) join(&g[k - 1], &now); /* what is left at the end */
        else g[k++] = now;
        now = (cadp_group){0};
        sum = 0;
    }
    *out = g;
    *count = k;
    return CAD_OK;
}
