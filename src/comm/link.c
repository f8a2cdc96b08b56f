#include <cadtrain/link.h>
#include "link_priv.h"

/* A staged transfer in flight: host memory of its own, kept for the next one. */
typedef struct stage { char *host; int64_t room; void *to; const int64_t *at; cad_num type; bool gathers, busy; cad_request request; } stage;

struct cad_link { cad_comm *comm; cad_device *device; bool staged; stage stages[CADP_LANES]; cadp_nccl *nccl; };

static bool known(const char *kind) { return !strcmp(kind, "host") || !strcmp(kind, "staged") || !strcmp(kind, "nccl"); }

cad_status cad_link_open(cad_link **out, cad_comm *comm, cad_device *device, const char *kind)
{
    bool by_nccl = *kind == 'n' && comm->size > 1 && !comm->does->pretends;
    cad_status status;
    cad_link *l;

    *out = NULL;
    if (!known(kind)) return cad_fail(CAD_EUSAGE, "link: expected host, staged or nccl, found '%s'", kind);
    status = cad_alloc(out, 1, sizeof **out, "a link");
    if (by_nccl) status = cad_comm_agree(comm, status);
    if (status) {
        cad_free(out);
        return status;
    }
    l = *out;
    *l = (cad_link){.comm = comm, .device = device, .staged = *kind == 's' && !comm->does->pretends};
    if (by_nccl && (status = cadp_nccl_open(&l->nccl, comm, device))) cad_link_close(out);
    return status;
}

void cad_link_close(cad_link **l)
{
    if (!*l) return;
    cadp_nccl_close(&(*l)->nccl);
    for (int i = 0; i < CADP_LANES; i++)
        if (!(*l)->stages[i].busy) cad_free(&(*l)->stages[i].host); /* after a failure others may still write into the rest */
    cad_free(l);
}

const char *cad_link_kind(const cad_link *l) { return l->nccl ? "nccl" : l->staged ? "staged" : "host"; }
const char *cad_link_library(const cad_link *l) { return l->nccl ? cadp_nccl_library(l->nccl) : ""; }

int64_t cad_link_host_bytes(const cad_link *l)
{
    int64_t sum = 0;

    for (int i = 0; i < CADP_LANES; i++) sum += l->stages[i].room;
    return sum;
}

/* The smallest free stage with room, else the largest free one. */
static stage *choose(cad_link *l, int64_t need)
{
    stage *best = NULL;

    for (int i = 0; i < CADP_LANES; i++) {
        stage *s = &l->stages[i];
        bool fits = s->room >= need, best_fits = best && best->room >= need;
        if (s->busy) continue;
        if (!best || (fits && !best_fits) || (fits && s->room < best->room) || (!fits && !best_fits && s->room > best->room)) best = s;
    }
    return best;
}

static cad_status take(cad_link *l, int64_t need, stage **out)
{
    stage *s = *out = choose(l, need);

    if (!s) return cad_fail(CAD_EINTERNAL, "more than %d collective transfers in flight", (int)CADP_LANES);
    if (s->room < need) {
        cad_free(&s->host);
        s->room = 0;
        CAD_TRY(cad_alloc(&s->host, (size_t)need, 1, "transfers between a device and other ranks"));
        s->room = need;
    }
    s->busy = true;
    return CAD_OK;
}

static cad_status started(stage *s, cad_status status, cad_request *r)
{
    if (status) s->busy = false;
    else *r = (cad_request){.handle = s};
    return status;
}

static cad_status stage_gather(cad_link *l, stage *s)
{
    int64_t each = (int64_t)cadp_num_bytes(s->type), at = s->at[l->comm->rank] * each, n = s->at[l->comm->rank + 1] * each - at;

    if (n) CAD_TRY(cad_device_download(l->device, s->host + at, (char *)s->to + at, n));
    return cad_comm_igather(l->comm, s->host, s->at, s->type, &s->request);
}

cad_status cad_link_gather(cad_link *l, void *buffer, const int64_t *at, cad_num type, cad_request *r)
{
    int64_t all = at[l->comm->size] * (int64_t)cadp_num_bytes(type);
    stage *s;

    *r = (cad_request){0};
    if (l->nccl) return cadp_nccl_gather(l->nccl, buffer, at, type, r);
    if (!l->staged || l->comm->size == 1) return cad_comm_igather(l->comm, buffer, at, type, r);
    CAD_TRY(take(l, all, &s));
    *s = (stage){.host = s->host, .room = s->room, .to = buffer, .at = at, .type = type, .gathers = true, .busy = true};
    return started(s, stage_gather(l, s), r);
}

cad_status cad_link_scatter(cad_link *l, const void *buffer, void *out, const int64_t *at, cad_num type, cad_request *r)
{
    int64_t each = (int64_t)cadp_num_bytes(type), all = at[l->comm->size] * each, part = (at[l->comm->rank + 1] - at[l->comm->rank]) * each;
    stage *s;
    cad_status status;

    *r = (cad_request){0};
    if (l->nccl) return cadp_nccl_scatter(l->nccl, buffer, out, at, type, r);
    if (l->comm->size == 1 && !l->comm->does->pretends) return cad_device_copy(l->device, out, buffer, part);
    if (!l->staged || l->comm->size == 1) {
        CAD_TRY(cad_device_sync(l->device));
        return cad_comm_iscatter(l->comm, buffer, out, at, type, r);
    }
    CAD_TRY(take(l, all + part, &s));
    *s = (stage){.host = s->host, .room = s->room, .to = out, .at = at, .type = type, .busy = true};
    status = cad_device_download(l->device, s->host, buffer, all);
    if (!status) status = cad_comm_iscatter(l->comm, s->host, s->host + all, at, type, &s->request);
    return started(s, status, r);
}

/* What arrived goes up: of a gather everything but this rank's own part, of a scatter the sum. */
static cad_status arrived(cad_link *l, const stage *s)
{
    int64_t each = (int64_t)cadp_num_bytes(s->type), own = s->at[l->comm->rank] * each, next = s->at[l->comm->rank + 1] * each, all = s->at[l->comm->size] * each;

    if (!s->gathers) return next > own ? cad_device_upload(l->device, s->to, s->host + all, next - own) : CAD_OK;
    if (own) CAD_TRY(cad_device_upload(l->device, s->to, s->host, own));
    return all > next ? cad_device_upload(l->device, (char *)s->to + next, s->host + next, all - next) : CAD_OK;
}

cad_status cad_link_wait(cad_link *l, cad_request *r)
{
    stage *s = r->handle;
    cad_status status;

    if (l->nccl) return cadp_nccl_wait(l->nccl, r);
    if (!l->staged || l->comm->size == 1 || !s) return cad_comm_wait(l->comm, r, NULL);
    *r = (cad_request){0};
    status = cad_comm_wait(l->comm, &s->request, NULL);
    if (!status) status = arrived(l, s);
    s->busy = false;
    return status;
}
