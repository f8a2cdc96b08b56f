#include "comm_priv.h"

cad_status cadp_alone_barrier(cad_comm *c)
{
    (void)c;
    return CAD_OK;
}

cad_status cadp_alone_bcast(cad_comm *c, void *bytes, size_t n, int root)
{
    (void)c, (void)bytes, (void)n, (void)root;
    return CAD_OK;
}

cad_status cadp_alone_allreduce(cad_comm *c, void *inout, int64_t n, cad_num type, cad_reduce op)
{
    (void)c, (void)inout, (void)n, (void)type, (void)op;
    return CAD_OK;
}

cad_status cadp_alone_collect(cad_comm *c, const void *mine, void *all, const int64_t *at, int root)
{
    (void)c, (void)root;
    if (at[1]) memmove(all, mine, (size_t)at[1]);
    return CAD_OK;
}

/* The earliest waiting message to itself of the other direction with this tag. */
static cadp_slot *counterpart(cad_comm *c, const cadp_slot *s)
{
    cadp_use other = s->use == CADP_SEND ? CADP_RECEIVE : CADP_SEND;
    cadp_slot *first = NULL;

    for (int i = 0; i < c->slot_count; i++) {
        cadp_slot *t = &c->slots[i];
        if (t->use == other && !t->done && t->tag == s->tag && (!first || t->order < first->order)) first = t;
    }
    return first;
}

static void deliver(cadp_slot *from, cadp_slot *to)
{
    size_t n = from->bytes < to->bytes ? from->bytes : to->bytes;

    if (n) memmove(to->out, from->in, n);
    to->received = from->bytes;
    from->done = to->done = true;
}

cad_status cadp_alone_send(cad_comm *c, cadp_slot *s)
{
    cadp_slot *to = counterpart(c, s);

    if (to) deliver(s, to);
    return CAD_OK;
}

cad_status cadp_alone_receive(cad_comm *c, cadp_slot *s)
{
    cadp_slot *from = counterpart(c, s);

    if (from) deliver(from, s);
    return CAD_OK;
}

cad_status cadp_alone_gather(cad_comm *c, cadp_slot *s)
{
    (void)c;
    s->done = true;
    return CAD_OK;
}

cad_status cadp_alone_scatter(cad_comm *c, cadp_slot *s)
{
    (void)c;
    if (s->at[1]) memcpy(s->out, s->in, (size_t)s->at[1] * cadp_num_bytes(s->type));
    s->done = true;
    return CAD_OK;
}

cad_status cadp_alone_wait(cad_comm *c, cadp_slot *s)
{
    (void)c;
    if (s->done) return CAD_OK;
    return cad_fail(CAD_EINTERNAL, "a message of this rank to itself with tag %d is waited for but %s", s->tag,
                    s->use == CADP_SEND ? "was not asked for" : "was not sent");
}

void cadp_alone_progress(cad_comm *c) { (void)c; }

static void close_self(cad_comm *c) { (void)c; }
static void stop_self(int code) { (void)code; }

static const cadp_comm_if self = {
    .name = "self", .close = close_self, .stop = stop_self,
    .barrier = cadp_alone_barrier, .bcast = cadp_alone_bcast, .allreduce = cadp_alone_allreduce, .collect = cadp_alone_collect,
    .send = cadp_alone_send, .receive = cadp_alone_receive, .gather = cadp_alone_gather, .scatter = cadp_alone_scatter,
    .wait = cadp_alone_wait, .progress = cadp_alone_progress,
};

cad_status cadp_self_open(cad_comm **out) { return cadp_comm_new(out, &self, 0, 1); }
