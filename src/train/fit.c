/* What else would fit: the same run with other settings, each planned by walking a step of it. */
#include "fit_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

const char *cadp_recompute_name(int recompute) { return recompute == CAD_RECOMPUTE_BLOCKS ? "true" : recompute == CAD_RECOMPUTE_ATTENTION ? "selective" : "false"; }

const char *cadp_method_name(const cad_method *m)
{
    if (!m->lora) return "full";
    return m->code == CAD_PLAIN ? "lora" : m->code == CAD_INT8 ? "lora8bit" : "qlora";
}

const char *cadp_size_text(char out[32], int64_t bytes)
{
    if (bytes >= 1 << 30) snprintf(out, 32, "%.2f GiB", (double)bytes / 0x1p30);
    else snprintf(out, 32, "%.1f MiB", (double)bytes / 0x1p20);
    return out;
}

/* The micro-batch as the data made it, or (another one) as many of the longest sequences. */
cad_status cadp_plan_with(const cad_run *r, const cadp_place_to *p, const cadp_setting *s, int64_t *total)
{
    cad_options options = *r->o;
    cad_run t = *r;

    t.o = &options;
    t.method = s->method;
    t.method.recompute = s->recompute;
    options.runtime.zero_stage = s->stage;
    if (s->batch != r->o->training.per_device_train_batch_size) {
        options.training.per_device_train_batch_size = s->batch;
        t.facts.sequences = s->batch;
        t.facts.tokens = s->batch * t.facts.longest;
    }
    t.pages = false;
    CAD_TRY(cadp_plan_total(&t, p->device, p->threads, p->world, total));
    if (*total <= p->memory || !cadp_may_page(r)) return CAD_OK;
    t.pages = true;
    return cadp_plan_total(&t, p->device, p->threads, p->world, total);
}

bool cadp_may_page(const cad_run *r) { return r->o->training.optim == CAD_OPTIM_PAGED_32BIT || r->o->training.optim == CAD_OPTIM_PAGED_8BIT; }

cad_status cadp_decide_paging(cad_run *r, const cadp_place_to *p)
{
    int64_t total;

    r->pages = false;
    if (!cadp_may_page(r)) return CAD_OK;
    CAD_TRY(cadp_plan_total(r, p->device, p->threads, p->world, &total));
    r->pages = total > p->memory;
    return CAD_OK;
}

cadp_setting cadp_setting_of(const cad_run *r)
{
    int stage = (int)r->o->runtime.zero_stage;

    return (cadp_setting){r->method, stage == 1 ? 2 : stage, r->method.recompute, r->o->training.per_device_train_batch_size};
}

/* The other ways to train the same model, as the options have them: `which` 0 as it is, 1 LoRA, 2 on 8-bit codes, 3 on NF4. false: it is that already. */
static bool other_method(const cad_run *r, int which, cad_method *out)
{
    *out = r->method;
    if (!which) return true;
    if (!out->lora) cadp_lora_from_options(r->o, out);
    if (which == 1) return !r->method.lora;
    if (r->arch.code || out->dora) return false; /* magnitudes are of plain weights */
    out->code = which == 2 ? CAD_INT8 : CAD_NF4;
    out->nested = which == 3;
    return out->code != r->method.code;
}

/* ---- the table of `plan` ---- */

static cad_status put_one(cad_run *r, const cadp_place_to *p, cad_json *j, const cadp_setting *s)
{
    int64_t total;

    CAD_TRY(cadp_plan_with(r, p, s, &total));
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "method", cadp_method_name(&s->method)));
    CAD_TRY(cad_json_int(j, "zero_stage", s->stage));
    if (s->recompute == CAD_RECOMPUTE_ATTENTION) CAD_TRY(cad_json_string(j, "gradient_checkpointing", "selective"));
    else CAD_TRY(cad_json_bool(j, "gradient_checkpointing", s->recompute != CAD_RECOMPUTE_LEAST));
    CAD_TRY(cad_json_int(j, "per_device_train_batch_size", s->batch));
    CAD_TRY(cad_json_int(j, "total", total));
    CAD_TRY(cad_json_bool(j, "fits", total <= p->memory));
    CAD_TRY(cad_json_int(j, "short_by", cad_max(0, total - p->memory)));
    return cad_json_end(j);
}

static const int64_t stages[] = {0, 2, 3};
static const int recomputes[] = {CAD_RECOMPUTE_LEAST, CAD_RECOMPUTE_ATTENTION, CAD_RECOMPUTE_BLOCKS}; /* from fast to small */

cad_status cadp_put_alternatives(cad_run *r, const cadp_place_to *p, cad_json *j)
{
    cadp_setting s = cadp_setting_of(r);

    CAD_TRY(cad_json_begin(j, "alternatives", '['));
    for (int which = 0; which < 4; which++)
        for (int i = 0; i < 9 && other_method(r, which, &s.method); i++) {
            s.stage = stages[i / 3];
            s.recompute = recomputes[i % 3];
            CAD_TRY(put_one(r, p, j, &s));
        }
    return cad_json_end(j);
}

cad_status cadp_print_alternatives(cad_run *r, const cadp_place_to *p)
{
    cadp_setting s = cadp_setting_of(r);

    printf("alternatives, a rank (* fits)\n  %-9s %-6s %13s %13s %13s\n", "method", "stage", "keep", "selective", "recompute");
    for (int which = 0; which < 4; which++)
        for (int i = 0; i < (p->world > 1 ? 3 : 1) && other_method(r, which, &s.method); i++) {
            s.stage = stages[i];
            printf("  %-9s %-6" PRId64, cadp_method_name(&s.method), s.stage);
            for (int k = 0; k < 3; k++) {
                int64_t total;
                char text[32];
                s.recompute = recomputes[k];
                CAD_TRY(cadp_plan_with(r, p, &s, &total));
                printf(" %12s%s", cadp_size_text(text, total), total <= p->memory ? "*" : " ");
            }
            printf("\n");
        }
    return CAD_OK;
}

/* ---- before a run loads anything ---- */

static cad_status try_one(const cad_run *r, const cadp_place_to *p, const cadp_setting *s, int *found)
{
    int64_t total;

    CAD_TRY(cadp_plan_with(r, p, s, &total));
    if (total > p->memory) return CAD_OK;
    *found += 1;
    return CAD_OK;
}

/* Settings that differ ever more from those asked for, from cheap to dear. */
static bool candidate(const cad_run *r, int world, int i, cadp_setting *s)
{
    static const struct { int recompute, stage, halvings, method; } list[] = {
        {CAD_RECOMPUTE_ATTENTION, 0, 0, 0}, {CAD_RECOMPUTE_BLOCKS, 0, 0, 0}, {CAD_RECOMPUTE_BLOCKS, 2, 0, 0}, {CAD_RECOMPUTE_BLOCKS, 3, 0, 0}, {CAD_RECOMPUTE_BLOCKS, 0, 1, 0}, {CAD_RECOMPUTE_BLOCKS, 3, 1, 0},
        {CAD_RECOMPUTE_BLOCKS, 0, 2, 0}, {CAD_RECOMPUTE_BLOCKS, 3, 2, 0}, {CAD_RECOMPUTE_BLOCKS, 0, 3, 0}, {CAD_RECOMPUTE_BLOCKS, 3, 3, 0}, {CAD_RECOMPUTE_BLOCKS, 0, 20, 0}, {CAD_RECOMPUTE_BLOCKS, 3, 20, 0},
        {CAD_RECOMPUTE_BLOCKS, 0, 0, 3}, {CAD_RECOMPUTE_BLOCKS, 3, 0, 3}, {CAD_RECOMPUTE_BLOCKS, 0, 20, 3}, {CAD_RECOMPUTE_BLOCKS, 3, 20, 3}};
    cadp_setting asked = cadp_setting_of(r);

    if (i >= (int)(sizeof list / sizeof *list)) return false;
    *s = asked;
    s->recompute = list[i].recompute;
    s->stage = cad_max(asked.stage, world > 1 ? list[i].stage : 0);
    s->batch = cad_max(1, list[i].halvings > 10 ? 1 : asked.batch >> list[i].halvings);
    if (!other_method(r, list[i].method, &s->method)) s->method = asked.method;
    return true;
}

static bool same_setting(const cadp_setting *a, const cadp_setting *b)
{
    return a->stage == b->stage && a->recompute == b->recompute && a->batch == b->batch && a->method.lora == b->method.lora && a->method.code == b->method.code;
}

static void name_setting(char *out, size_t room, const cad_run *r, const cadp_setting *s)
{
    cadp_setting asked = cadp_setting_of(r);
    size_t used = 0;

    out[0] = 0;
    if (s->method.lora != asked.method.lora) used += (size_t)snprintf(out + used, room - used, "lora.enabled true, ");
    if (s->method.code != asked.method.code) used += (size_t)snprintf(out + used, room - used, "load_in_4bit true, bnb_4bit_use_double_quant true, ");
    if (s->stage != asked.stage) used += (size_t)snprintf(out + used, room - used, "zero_stage %" PRId64 ", ", s->stage);
    if (s->batch != asked.batch) used += (size_t)snprintf(out + used, room - used, "per_device_train_batch_size %" PRId64 ", ", s->batch);
    if (s->recompute != asked.recompute) used += (size_t)snprintf(out + used, room - used, "gradient_checkpointing %s, ", cadp_recompute_name(s->recompute));
    if (used >= 2) out[used - 2] = 0;
}

static cad_status refuse(const cad_run *r, const cadp_place_to *p, int64_t total)
{
    cadp_setting seen[3], s;
    char fits[512] = "", name[192], most[32], needs[32];
    int found = 0;

    for (int i = 0; found < 3 && candidate(r, p->world, i, &s); i++) {
        int before = found;
        bool known = false;
        for (int k = 0; k < found; k++) known |= same_setting(&seen[k], &s);
        if (known) continue;
        CAD_TRY(try_one(r, p, &s, &found));
        if (found == before) continue;
        seen[before] = s;
        name_setting(name, sizeof name, r, &s);
        snprintf(fits + strlen(fits), sizeof fits - strlen(fits), "%s(%d) %s", before ? "; " : "", found, name);
    }
    if (found) cad_advise("these fit: %s", fits);
    else cad_advise("nothing this program could change fits: more ranks with zero_stage 3, or a smaller model");
    return cad_fail(CAD_EUSAGE, "memory: expected a plan of at most %s a rank, found one of %s (%s, zero_stage %d, micro-batches of %" PRId64 " tokens)", cadp_size_text(most, p->memory),
                    cadp_size_text(needs, total), cadp_method_name(&r->method), (int)cadp_setting_of(r).stage, r->facts.tokens);
}

cad_status cadp_settle_memory(cad_run *r)
{
    cadp_place_to p = {.device = r->device ? cad_device_name(r->device) : "cpu", .threads = cadp_threads(r), .world = r->size};
    bool chooses = r->o->runtime.gradient_checkpointing == CAD_CHECKPOINT_AUTO;
    cadp_setting s = cadp_setting_of(r);
    int64_t total = 0;
    char needs[32], most[32];

    CAD_TRY(cadp_memory_of_all(r, &p.memory));
    for (int k = 0; k < (chooses ? 3 : 1); k++) {
        if (chooses) s.recompute = recomputes[k];
        CAD_TRY(cadp_plan_with(r, &p, &s, &total));
        r->method.recompute = s.recompute;
        if (total > p.memory) continue;
        CAD_TRY(cadp_decide_paging(r, &p));
        if (chooses && !r->rank) cad_info("gradient_checkpointing: %s, the fastest whose plan of %s fits %s", cadp_recompute_name(s.recompute), cadp_size_text(needs, total), cadp_size_text(most, p.memory));
        return CAD_OK;
    }
    return refuse(r, &p, total);
}
