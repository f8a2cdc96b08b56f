/* generate, push. */
#include "cli_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A number of a flag of this command, from `low` up to `high`. */
static cad_status number(const cadp_call *c, const char *name, double low, double high, double otherwise, double *out)
{
    const char *text = cadp_call_value(c, name);
    char *end;

    *out = otherwise;
    if (!text) return CAD_OK;
    *out = strtod(text, &end);
    if (end != text && !*end && *out >= low && *out <= high) return CAD_OK;
    return cad_fail(CAD_EUSAGE, "--%s: expected a number from %g to %g, found \"%.60s\"", name, low, high, text);
}

static cad_status whole(const cadp_call *c, const char *name, double low, double otherwise, int64_t *out)
{
    double v;

    CAD_TRY(number(c, name, low, 1e9, otherwise, &v));
    *out = (int64_t)v;
    return v == floor(v) ? CAD_OK : cad_fail(CAD_EUSAGE, "--%s: expected a whole number, found %g", name, v);
}

static cad_status read_generation(const cadp_call *c, cad_generation *g)
{
    const cad_flag *stop = cadp_call_flag(c, "stop");
    cad_sampling *s = &g->sampling;

    *g = (cad_generation){.prompt = cadp_call_value(c, "prompt"), .json = c->json, .chat = cadp_call_given(c, "chat"), .system = cadp_call_value(c, "system")};
    if (stop->given) {
        g->stop = stop->values;
        g->stop_count = stop->count;
    }
    s->seed = (uint64_t)c->o->runtime.seed;
    CAD_TRY(whole(c, "max-new-tokens", 1, 128, &s->max_new_tokens));
    CAD_TRY(whole(c, "top-k", 0, 0, &s->top_k));
    CAD_TRY(number(c, "temperature", 0, 1e6, 0, &s->temperature));
    CAD_TRY(number(c, "top-p", 1e-9, 1, 1, &s->top_p));
    CAD_TRY(number(c, "min-p", 0, 1, 0, &s->min_p));
    CAD_TRY(number(c, "repetition-penalty", 1e-3, 1e3, 1, &s->repetition_penalty));
    if (!g->prompt == !cadp_call_value(c, "input")) return cad_fail(CAD_EUSAGE, "generate: expected --prompt or --input, found %s", g->prompt ? "both" : "neither");
    if (g->system && !g->chat) return cad_fail(CAD_EUSAGE, "--system: expected --chat with it, found none");
    return CAD_OK;
}

/* Of one prompt every token reads all weights. */
static void say_speed(const cad_generated *g)
{
    char weights[64] = "";

    if (g->prompts == 1) snprintf(weights, sizeof weights, " %.1f GB/s of weights,", (double)g->tokens * g->weight_bytes / g->seconds * 1e-9);
    fprintf(stderr, "cadtrain: %lld token%s in %.2f s: %.1f tokens/s,%s %lld bytes of device memory (planned %lld)\n", (long long)g->tokens, g->tokens == 1 ? "" : "s", g->seconds,
            (double)g->tokens / g->seconds, weights, (long long)g->peak_bytes, (long long)g->planned_bytes);
}

cad_status cadp_cmd_generate(cadp_call *c)
{
    cad_generation g;
    cad_generated done;
    cad_run_options what = {.purpose = CAD_RUN_GENERATE, .input = cadp_call_value(c, "input"), .config_json = c->config_json, .generation = &g};
    cad_run *r = NULL;
    cad_status st = cad_comm_agree(c->comm, read_generation(c, &g));

    if (!st) st = cad_run_open(&r, c->o, c->comm, &what);
    if (!st) st = cad_run_generate(r, &done);
    if (!st && !c->rank) say_speed(&done);
    cad_run_close(&r);
    return st;
}

/* As a shell reads it back: within quotes where it has more than plain characters. */
static void print_word(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:,@%";
    bool quoted = !*text || text[strspn(text, plain)];

    if (quoted) putchar('\'');
    for (; *text; text++) *text == '\'' ? fputs("'\\''", stdout) : putchar(*text);
    if (quoted) putchar('\'');
}

cad_status cadp_cmd_push(cadp_call *c)
{
    const char *to = cadp_call_value(c, "to");

    CAD_TRY(cad_push(c->o, cadp_call_value(c, "checkpoint"), to));
    printf("hf upload ORG/NAME ");
    print_word(to);
    printf(" . --private\n");
    return CAD_OK;
}
