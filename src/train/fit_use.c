/* Runs that do not train: does the plan fit, before weights are read? */
#include "fit_priv.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct use { int64_t batch; int stage; bool codes; } use;

static int64_t batch_of(const cad_run *r, int halvings) { return halvings > 10 ? 1 : cad_max(1, r->facts.sequences >> halvings); }

/* Settings that differ ever more from those asked for, from cheap to dear; false behind the last. */
static bool candidate(const cad_run *r, int i, use *out)
{
    static const struct { int halvings, stage; bool codes; } list[] = {{1, 0, false}, {2, 0, false}, {3, 0, false}, {20, 0, false}, {0, 3, false}, {2, 3, false}, {20, 3, false}, {0, 0, true}, {20, 0, true}, {0, 3, true}, {20, 3, true}};

    if (i >= (int)(sizeof list / sizeof *list)) return false;
    *out = (use){batch_of(r, list[i].halvings), (int)cad_max(r->o->runtime.zero_stage, r->size > 1 ? list[i].stage : 0), list[i].codes && !r->method.code && !r->method.dora};
    return true;
}

static bool is_asked(const cad_run *r, const use *u) { return u->batch == r->facts.sequences && u->stage == r->o->runtime.zero_stage && !u->codes; }

static cad_status plan_use(const cad_run *r, const cadp_place_to *p, const use *u, int64_t *total)
{
    cad_options options = *r->o;
    cad_run t = *r;
    cadp_facts *f = &t.facts;

    t.o = &options;
    options.runtime.zero_stage = u->stage;
    if (u->batch != f->sequences) f->tokens = cad_max(f->longest + u->batch - 1, cad_min(f->tokens, u->batch * f->longest));
    f->sequences = u->batch;
    f->predict_batch = cad_min(f->predict_batch, u->batch);
    if (u->codes) t.method.code = CAD_NF4;
    return cadp_plan_total(&t, p->device, p->threads, p->world, total);
}

static size_t name_use(char *out, size_t room, const cad_run *r, const use *u, int number)
{
    size_t used = (size_t)snprintf(out, room, "%s(%d) ", number > 1 ? "; " : "", number);

    if (u->codes) used += (size_t)snprintf(out + used, room - used, "load_in_4bit true, ");
    if (u->stage != r->o->runtime.zero_stage) used += (size_t)snprintf(out + used, room - used, "zero_stage %d, ", u->stage);
    if (u->batch != r->facts.sequences) used += (size_t)snprintf(out + used, room - used, "per_device_eval_batch_size %" PRId64 ", ", u->batch);
    out[used - 2] = 0;
    return used - 2;
}

static cad_status refuse(const cad_run *r, const cadp_place_to *p, int64_t needed)
{
    char fits[512] = "", most[32], needs[32];
    size_t used = 0;
    int found = 0;
    use seen[3], u;

    for (int i = 0; found < 3 && candidate(r, i, &u); i++) {
        int64_t total;
        bool known = is_asked(r, &u);
        for (int k = 0; k < found; k++) known |= seen[k].batch == u.batch && seen[k].stage == u.stage && seen[k].codes == u.codes;
        if (known) continue;
        CAD_TRY(plan_use(r, p, &u, &total));
        if (total > p->memory) continue;
        seen[found++] = u;
        used += name_use(fits + used, sizeof fits - used, r, &u, found);
    }
    if (found) cad_advise("these fit: %s", fits);
    else cad_advise("nothing this program could change fits: more ranks with zero_stage 3, or a smaller model");
    return cad_fail(CAD_EUSAGE, "memory: expected a plan of at most %s a rank, found one of %s (zero_stage %d, batches of %" PRId64 " tokens)", cadp_size_text(most, p->memory), cadp_size_text(needs, needed),
                    (int)r->o->runtime.zero_stage, r->facts.tokens);
}

cad_status cadp_settle_use(cad_run *r)
{
    cadp_place_to p = {.device = cad_device_name(r->device), .threads = cadp_threads(r), .world = r->size};
    int64_t total;

    CAD_TRY(cadp_memory_of_all(r, &p.memory));
    CAD_TRY(cadp_plan_total(r, p.device, p.threads, p.world, &total));
    return total <= p.memory ? CAD_OK : refuse(r, &p, total);
}
