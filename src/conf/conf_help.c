/* The table as help on a terminal and as docs/options.md. */
#include "conf_priv.h"

#include <stdio.h>

typedef struct names { cad_str *out; cad_status status; bool any; const char *before, *after; } names;

static void add_name(void *with, const char *name)
{
    names *n = with;

    if (n->status) return;
    n->status = cad_str_addf(n->out, "%s%s--%s%s", n->any ? ", " : "", n->before, name, n->after);
    n->any = true;
}

static cad_status add_names(cad_str *out, const cadp_row *row, const char *quote)
{
    names n = {.out = out, .before = quote, .after = quote};

    cadp_conf_each_flag(row, add_name, &n);
    if (!n.status && !n.any) n.status = cad_str_addf(out, "%s--set %s%s%s=…%s", quote, row->in, *row->in ? "." : "", row->key, quote);
    return n.status;
}

static const char *sort_of(const cadp_row *row)
{
    switch (row->type) {
    case CADP_BOOL: case CADP_MAYBE: return "true|false";
    case CADP_INT: return "N";
    case CADP_REAL: return "X";
    case CADP_PAIR: return "X,X";
    case CADP_SECONDS: return "TIME";
    case CADP_WORDS: return "A,B,…";
    case CADP_TARGETS: return "A,B,…|REGEX";
    case CADP_WHOLES: return "N|[N,…]";
    case CADP_PATTERN: return "{REGEX: N, …}";
    case CADP_WORD: return "WORD";
    case CADP_TEXT: return row->words ? "WORD" : "TEXT";
    }
    return "";
}

static const char *standard_of(const cadp_row *row)
{
    return row->standard && *row->standard ? row->standard : row->type == CADP_WORDS ? "[]" : row->type == CADP_PATTERN ? "{}" : "null";
}

static bool shown(const cadp_row *row) { return !(row->marks & CADP_HIDDEN); }

static cad_status help_row(cad_str *out, const cadp_row *row)
{
    char expected[256];

    CAD_TRY(cad_str_addf(out, "  "));
    CAD_TRY(add_names(out, row, ""));
    cadp_conf_expectation(expected, sizeof expected, row);
    CAD_TRY(cad_str_addf(out, " %s\n        %s\n", sort_of(row), row->help));
    if (row->marks & CADP_SECOND) return cad_str_addf(out, "        %s\n", expected);
    return cad_str_addf(out, "        %s; default %s\n", expected, standard_of(row));
}

static cad_status help_command(cad_str *out, const cad_flag *flags)
{
    for (const cad_flag *f = flags; f && f->name; f++) {
        const char *value = !f->takes_value ? "" : f->many ? " VALUE…" : " VALUE";
        if (f == flags) CAD_TRY(cad_str_addf(out, "flags of this command\n"));
        if (*f->name) CAD_TRY(cad_str_addf(out, "  --%s%s\n        %s\n", f->name, value, f->help ? f->help : ""));
        else CAD_TRY(cad_str_addf(out, "  %s\n        %s\n", f->many ? "ARGUMENT…" : "ARGUMENT", f->help ? f->help : ""));
    }
    return CAD_OK;
}

cad_status cad_config_help(cad_str *out, const cad_flag *command_flags)
{
    const char *now = NULL;

    CAD_TRY(help_command(out, command_flags));
    CAD_TRY(cad_str_addf(out, "configuration\n  --config FILE\n        Experiment file (.yaml, .yml, .json).\n"
                              "  --deepspeed FILE\n        DeepSpeed JSON, instead of the experiment's.\n"
                              "  --set section.key=value\n        Any option by its place in the file; the value is YAML.\n"
                              "  --print-config\n        Print every option with its source.\n"
                              "  --skip-test\n        The same as --run-test-after-train false.\n"
                              "  --local-rank N\n        Accepted without effect: launchers add it.\n"));
    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        if (!shown(row)) continue;
        if (!now || strcmp(now, row->in)) CAD_TRY(cad_str_addf(out, "%s\n", *row->in ? row->in : "run"));
        now = row->in;
        CAD_TRY(help_row(out, row));
    }
    return cad_str_addf(out, "Options may also stand in the environment: CADTRAIN_<SECTION>_<KEY> or CADTRAIN_<FLAG>.\n");
}

static cad_status markdown_row(cad_str *out, const cadp_row *row)
{
    char expected[256];

    cadp_conf_expectation(expected, sizeof expected, row);
    CAD_TRY(cad_str_addf(out, "| `%s`", row->key));
    if (row->also) CAD_TRY(cad_str_addf(out, ", `%s`", row->also));
    CAD_TRY(cad_str_addf(out, " | "));
    CAD_TRY(add_names(out, row, "`"));
    CAD_TRY(cad_str_addf(out, " | %s | ", expected));
    if (!(row->marks & CADP_SECOND)) CAD_TRY(cad_str_addf(out, "`%s`", standard_of(row)));
    return cad_str_addf(out, " | %s |\n", row->help);
}

cad_status cad_config_markdown(cad_str *out)
{
    const char *now = NULL;

    CAD_TRY(cad_str_addf(out, "# Options\n\n"
        "Made from `src/conf/table.c`; a test compares (`CADTRAIN_WRITE_DOCS=1` makes that test write this file).\n\n"
        "Defaults < files named under `paths` < the experiment file (`--config`) < environment < flags; of a flag given twice the later one.\n"
        "`--learning-rate 1e-4`, `--learning-rate=1e-4`, `--learning_rate 1e-4` and `--set training.learning_rate=1e-4` are the same, and so are\n"
        "`CADTRAIN_TRAINING_LEARNING_RATE=1e-4` and `CADTRAIN_LEARNING_RATE=1e-4`. Booleans: `--bf16`, `--bf16 true`, `--bf16 false`, `--no-bf16`.\n"
        "Further flags: `--config FILE`, `--deepspeed FILE`, `--set section.key=value`, `--print-config`, `--skip-test`, `--lr-scheduler-kwargs '{…}'`.\n"
        "As flags, `--model-name-or-path` also sets the tokenizer unless that is given, `--num-labels` sets both sections, `--load-in-4bit` and\n"
        "`--load-in-8bit`, `--bf16` and `--fp16` turn each other off.\n"));
    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        if (!shown(row)) continue;
        if (!now || strcmp(now, row->in))
            CAD_TRY(cad_str_addf(out, "\n## %s\n\n| key | flag | value | default | meaning |\n|---|---|---|---|---|\n", *row->in ? row->in : "At the top"));
        now = row->in;
        CAD_TRY(markdown_row(out, row));
    }
    CAD_TRY(cad_str_addf(out, "\n## deepspeed\n\nA DeepSpeed JSON as it is: under `paths.deepspeed`, as section `deepspeed`, or with `--deepspeed FILE`. Options given\n"
                              "as such in the same source or a higher one win over it; `\"auto\"` takes the training section's value.\n\n"));
    return cadp_conf_deepspeed_markdown(out);
}
