/* The command line and the environment as a list of (option, text), applied when the files below them have been read. */
#include "conf_priv.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const own[] = {"config", "set", "print-config", "deepspeed", "local-rank", "skip-test", "help", NULL};
/* Sections that Transformers' users write as one JSON text. */
static const struct { const char *flag, *section; } section_flags[] = {
    {"lr-scheduler-kwargs", "training.lr_scheduler_kwargs"}, {"class-weights", "dataset.class_weights"},
    {"oversampling", "dataset.oversampling"}, {"lora", "model.lora"}};
enum { SECTION_FLAGS = sizeof section_flags / sizeof section_flags[0] };

typedef struct line { cad_config *c; cadp_given *g; cad_flag *command; int argc, at; char **argv; } line;

static cad_status add_item(cadp_given *g, cadp_item item, const char *name, const char *section, size_t section_size)
{
    cadp_item *to;

    if (g->count == g->room) {
        CAD_TRY(cad_grow(&g->item, (size_t)g->room + 16, sizeof *g->item, "flags"));
        g->room += 16;
    }
    to = &g->item[g->count++];
    *to = item;
    to->name = to->section = NULL;
    CAD_TRY(cadp_conf_store_text(&to->name, name, strlen(name)));
    return section ? cadp_conf_store_text(&to->section, section, section_size) : CAD_OK;
}

void cadp_conf_given_close(cadp_given *g)
{
    for (int i = 0; i < g->count; i++) {
        cad_free(&g->item[i].name);
        cad_free(&g->item[i].section);
    }
    cad_free(&g->item);
    g->count = g->room = 0;
}

bool cadp_conf_given_field(const cadp_given *g, size_t at)
{
    for (int i = 0; i < g->count; i++)
        if (g->item[i].row >= 0 && cadp_conf_rows[g->item[i].row].at == at && g->item[i].value && *g->item[i].value) return true;
    return false;
}

/* ---- one argument ---- */

static bool is_flag(const char *arg) { return arg[0] == '-' && arg[1] == '-' && isalpha((unsigned char)arg[2]); }

static const char *next_value(line *l)
{
    return l->at + 1 < l->argc && !is_flag(l->argv[l->at + 1]) ? l->argv[++l->at] : NULL;
}

static void offer_name(void *with, const char *name) { cad_near_offer(with, name); }

static void offer_flags(const line *l, cad_near *near)
{
    for (int i = 0; i < cadp_conf_row_count; i++) cadp_conf_each_flag(&cadp_conf_rows[i], offer_name, near);
    for (int i = 0; own[i]; i++) cad_near_offer(near, own[i]);
    for (int i = 0; i < SECTION_FLAGS; i++) cad_near_offer(near, section_flags[i].flag);
    for (const cad_flag *f = l->command; f && f->name; f++) cad_near_offer(near, f->name);
}

static cad_status unknown_flag(line *l, const char *name, bool has_value)
{
    cad_near near = {.wanted = name};

    offer_flags(l, &near);
    if (!has_value) (void)next_value(l); /* most likely its value: one mistake, not two */
    return cadp_conf_mistake(l->c, "--%.80s: unknown flag%s", name, cad_near_hint(&near, "--"));
}

static cad_flag *find_command_flag(cad_flag *flags, const char *name)
{
    for (cad_flag *f = flags; f && f->name; f++)
        if (*f->name == *name && cadp_conf_same(name, strlen(name), f->name)) return f;
    return NULL;
}

static void add_value(cad_flag *f, const char *value)
{
    if (f->many) f->values[f->count++] = value;
}

/* Room for every argument, as each may be one of such a flag. */
static cad_status give_room(line *l)
{
    size_t lists = 0, each = (size_t)l->argc;

    for (const cad_flag *f = l->command; f && f->name; f++) lists += f->many;
    CAD_TRY(cad_alloc(&l->c->values, lists * each, sizeof *l->c->values, "arguments"));
    lists = 0;
    for (cad_flag *f = l->command; f && f->name; f++)
        if (f->many) f->values = l->c->values + each * lists++;
    return CAD_OK;
}

static cad_status take_command_flag(line *l, cad_flag *f, const char *value)
{
    f->given = true;
    if (!f->takes_value) return value ? cadp_conf_mistake(l->c, "--%s: takes no value, found %s", f->name, cadp_conf_quote(value).text) : CAD_OK;
    f->value = value ? value : next_value(l);
    if (!f->value) return cadp_conf_mistake(l->c, "--%s: expected a value", f->name);
    if (!f->gathers) f->count = 0;
    add_value(f, f->value);
    for (const char *more; f->many && !value && (more = next_value(l));) add_value(f, more);
    return CAD_OK;
}

static void full_path(char *out, size_t room, const cadp_row *row) { snprintf(out, room, "%s%s%s", row->in, *row->in ? "." : "", row->key); }

/* The nearest "section.key": within the section if it is known, by the key alone if there is no section, else by all of it. */
static void offer_paths(cad_near *near)
{
    const char *path = near->wanted, *dot = strrchr(path, '.');
    bool inside = dot && cadp_conf_is_section(path, (size_t)(dot - path));
    cad_near key = {.wanted = dot ? dot + 1 : path};
    char full[96];

    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        int before = key.found ? key.cost : 1 << 30;
        if (row->marks & CADP_HIDDEN || (inside && !cadp_conf_same(path, (size_t)(dot - path), row->in))) continue;
        full_path(full, sizeof full, row);
        if (dot && !inside) cad_near_offer(near, full);
        else cad_near_offer(&key, row->key);
        if (!key.found || key.cost >= before) continue;
        near->found = true;
        snprintf(near->best, sizeof near->best, "%s", full);
    }
}

static cad_status unknown_path(line *l, const char *path)
{
    const char *dot = strrchr(path, '.'), *key = dot ? dot + 1 : path, *home = cadp_conf_home_of(key);
    cad_near near = {.wanted = path};

    offer_paths(&near);
    if (home) { /* the key is right */
        near.found = true;
        snprintf(near.best, sizeof near.best, "%s%s%.60s", home, *home ? "." : "", key);
    }
    return cadp_conf_mistake(l->c, "--set: unknown option %s%s", cadp_conf_quote(path).text, cad_near_hint(&near, ""));
}

static cad_status take_set(line *l, const char *value)
{
    char path[128], name[160];
    const char *equal = value ? strchr(value, '=') : NULL;
    cadp_item item = {.level = CADP_FLAG, .exact = true};

    if (!equal || (size_t)(equal - value) >= sizeof path)
        return cadp_conf_mistake(l->c, "--set: expected section.key=value, found %s", value ? cadp_conf_quote(value).text : "nothing");
    snprintf(path, sizeof path, "%.*s", (int)(equal - value), value);
    snprintf(name, sizeof name, "--set %s", path);
    item.value = equal + 1;
    item.row = cadp_conf_find_path(path);
    if (item.row >= 0) return add_item(l->g, item, name, NULL, 0);
    if (cadp_conf_is_section(path, strlen(path)) || !strcmp(path, "deepspeed")) return add_item(l->g, item, name, path, strlen(path));
    return unknown_path(l, path);
}

static cad_status take_own(line *l, int which, const char *value)
{
    cadp_item item = {.row = cadp_conf_row_of(offsetof(cad_options, training.run_test_after_train)), .level = CADP_FLAG, .exact = true, .invert = true};

    if (!strcmp(own[which], "print-config")) {
        l->c->wants_print = true;
        return value ? cadp_conf_mistake(l->c, "--print-config: takes no value, found %s", cadp_conf_quote(value).text) : CAD_OK;
    }
    if (!strcmp(own[which], "skip-test")) {
        const char *next = l->at + 1 < l->argc ? l->argv[l->at + 1] : "";
        item.value = value;
        if (!value && (!strcmp(next, "true") || !strcmp(next, "false"))) item.value = l->argv[++l->at];
        return add_item(l->g, item, "--skip-test", NULL, 0);
    }
    if (!value) value = next_value(l);
    if (!strcmp(own[which], "set")) return take_set(l, value);
    if (!value || !*value) return cadp_conf_mistake(l->c, "--%s: expected a value", own[which]);
    if (!strcmp(own[which], "config")) l->g->config = value;
    else if (!strcmp(own[which], "deepspeed")) l->g->deepspeed = value;
    else if (!strcmp(own[which], "help")) return cadp_conf_mistake(l->c, "--help: takes no value, found %s", cadp_conf_quote(value).text);
    return CAD_OK; /* --local-rank: launchers add it */
}

static bool is_word_switch(const cadp_row *row) { return row->type == CADP_WORD && row->marks & CADP_BOOL_TOO; }
static bool is_switch(const cadp_row *row) { return row->type == CADP_BOOL || row->type == CADP_MAYBE; }

static cad_status take_option(line *l, int row, const char *name, const char *value, bool exact, bool invert)
{
    cadp_item item = {.row = row, .value = value, .level = CADP_FLAG, .exact = exact, .invert = invert};
    char shown[128];

    snprintf(shown, sizeof shown, "--%s", name);
    for (char *c = shown; *c; c++)
        if (*c == '_' && !exact) *c = '-';
    if (!value && !invert) item.value = next_value(l);
    if (is_word_switch(&cadp_conf_rows[row]) && !item.value) {
        item.value = invert ? "false" : "true";
        item.invert = false;
    }
    if (!item.value && !is_switch(&cadp_conf_rows[row])) {
        char expected[256];
        cadp_conf_expectation(expected, sizeof expected, &cadp_conf_rows[row]);
        return cadp_conf_mistake(l->c, "%s: expected %s, found nothing", shown, expected);
    }
    return add_item(l->g, item, shown, NULL, 0);
}

static cad_status take_section(line *l, int which, const char *value)
{
    cadp_item item = {.row = -1, .level = CADP_FLAG};
    char shown[64];

    item.value = value ? value : next_value(l);
    snprintf(shown, sizeof shown, "--%s", section_flags[which].flag);
    if (!item.value) return cadp_conf_mistake(l->c, "%s: expected a table of options, found nothing", shown);
    return add_item(l->g, item, shown, section_flags[which].section, strlen(section_flags[which].section));
}

static cad_status take_flag(line *l, const char *name, const char *value)
{
    cad_flag *f = find_command_flag(l->command, name);
    int row;

    if (f) return take_command_flag(l, f, value);
    for (int i = 0; own[i]; i++)
        if (cadp_conf_same(name, strlen(name), own[i]) && strcmp(own[i], "help")) return take_own(l, i, value);
    row = cadp_conf_find_flag(name);
    if (row >= 0) return take_option(l, row, name, value, false, false);
    row = strchr(name, '.') ? cadp_conf_find_path(name) : -1;
    if (row >= 0) return take_option(l, row, name, value, true, false);
    row = !strncmp(name, "no-", 3) || !strncmp(name, "no_", 3) ? cadp_conf_find_flag(name + 3) : -1;
    if (row >= 0 && (cadp_conf_rows[row].type == CADP_BOOL || is_word_switch(&cadp_conf_rows[row])) && !value) return take_option(l, row, name, NULL, false, true);
    for (int i = 0; i < SECTION_FLAGS; i++)
        if (cadp_conf_same(name, strlen(name), section_flags[i].flag)) return take_section(l, i, value);
    return unknown_flag(l, name, value != NULL);
}

cad_status cadp_conf_read_flags(cad_config *c, cadp_given *g, int argc, char **argv, cad_flag *command_flags)
{
    line l = {.c = c, .g = g, .command = command_flags, .argc = argc, .argv = argv};
    cad_flag *plain = find_command_flag(command_flags, "");

    CAD_TRY(give_room(&l));
    for (l.at = 0; l.at < argc; l.at++) {
        const char *arg = argv[l.at], *equal;
        char name[128];
        if (is_flag(arg)) {
            equal = strchr(arg, '=');
            snprintf(name, sizeof name, "%.*s", (int)(equal ? equal - arg - 2 : (long)strlen(arg) - 2), arg + 2);
            CAD_TRY(take_flag(&l, name, equal ? equal + 1 : NULL));
        } else if (plain && !plain->given) {
            plain->given = true;
            plain->value = arg;
            add_value(plain, arg);
            for (const char *more; plain->many && (more = next_value(&l));) add_value(plain, more);
        } else CAD_TRY(cadp_conf_mistake(c, "unexpected argument %s: options are written --name value", cadp_conf_quote(arg).text));
    }
    return CAD_OK;
}

/* ---- the environment ---- */

static void upper(char *name)
{
    for (char *c = name; *c; c++) *c = *c == '-' || *c == '.' ? '_' : (char)toupper((unsigned char)*c);
}

typedef struct look { cadp_given *g; int row; cad_status status; const char *wanted; bool found; cad_near *near; } look;

static void full_name(char *out, size_t room, const cadp_row *row, const char *key)
{
    snprintf(out, room, "CADTRAIN_%s%s%s", row->in, *row->in ? "_" : "", key);
    upper(out);
}

/* Each variable of a row in turn: those of its flags first, so that the one with the section wins. */
static void each_variable(const cadp_row *row, void (*see)(look *l, const char *name, bool exact), look *l);

static void read_variable(look *l, const char *name, bool exact)
{
    const char *value = getenv(name);
    cadp_item item = {.row = l->row, .value = value, .level = CADP_ENVIRONMENT, .exact = exact};

    if (value && !l->status) l->status = add_item(l->g, item, name, NULL, 0);
}

static void compare_variable(look *l, const char *name, bool exact)
{
    (void)exact;
    if (!strcmp(name, l->wanted)) l->found = true;
    if (l->near) cad_near_offer(l->near, name);
}

typedef struct relay { look *l; void (*see)(look *l, const char *name, bool exact); } relay;
static void see_flag(void *with, const char *name)
{
    const relay *r = with;
    char variable[128];

    snprintf(variable, sizeof variable, "CADTRAIN_%s", name);
    upper(variable);
    r->see(r->l, variable, false);
}

static void each_variable(const cadp_row *row, void (*see)(look *l, const char *name, bool exact), look *l)
{
    relay r = {l, see};
    char name[128];

    if (row->marks & CADP_HIDDEN) return;
    cadp_conf_each_flag(row, see_flag, &r);
    full_name(name, sizeof name, row, row->key);
    if (*row->in || (row->flags && !*row->flags)) see(l, name, true);
    if (!row->also) return;
    full_name(name, sizeof name, row, row->also);
    see(l, name, true);
}

/* A variable of a section, or one letter off a known one, is a mistake; others may belong to somebody else. */
static cad_status unknown_variable(cad_config *c, const char *name)
{
    static const char *const sections[] = {"MODEL_", "TASK_", "DATASET_", "TRAINING_", "RUNTIME_"};
    cad_near near = {.wanted = name};
    look l = {.wanted = name, .near = &near};
    bool ours = false;

    for (int i = 0; i < cadp_conf_row_count; i++) each_variable(&cadp_conf_rows[i], compare_variable, &l);
    for (int i = 0; i < 5; i++) ours |= !strncmp(name + 9, sections[i], strlen(sections[i]));
    if (ours || (near.found && near.cost < 2000))
        return cadp_conf_mistake(c, "%.100s: unknown option in the environment%s", name, cad_near_hint(&near, ""));
    return cadp_conf_note(c, "%.100s in the environment names no option and has no effect", name);
}

/* Variables that other rooms read: what stops where a failure arises, what a test counts, which instructions products use. */
static bool switch_of_the_program(const char *name)
{
    static const char *const names[] = {"CADTRAIN_DEBUG", "CADTRAIN_DEBUG_ALLOC", "CADTRAIN_BF16_PRODUCTS", "CADTRAIN_SHARED", "CADTRAIN_SHARE_GPU", "CADTRAIN_LINK",
                                        "CADTRAIN_MEASURE_PRODUCTS", "CADTRAIN_PRODUCTS", "CADTRAIN_PRODUCTS_FILE"};
    static const char *const starts[] = {"CADTRAIN_EMULATED_", "CADTRAIN_NCCL_", "CADTRAIN_TEST_"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return true;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (!strncmp(name, starts[i], strlen(starts[i]))) return true;
    return false;
}

cad_status cadp_conf_read_environment(cad_config *c, cadp_given *g)
{
    look l = {.g = g};

    for (l.row = 0; l.row < cadp_conf_row_count; l.row++) {
        each_variable(&cadp_conf_rows[l.row], read_variable, &l);
        CAD_TRY(l.status);
    }
    g->env_deepspeed = getenv("CADTRAIN_DEEPSPEED");
    for (char **e = environ; e && *e; e++) {
        char name[128];
        look known = {.wanted = name};
        if (strncmp(*e, "CADTRAIN_", 9)) continue;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*e, "="), *e);
        for (int i = 0; i < cadp_conf_row_count; i++) each_variable(&cadp_conf_rows[i], compare_variable, &known);
        if (!known.found && strcmp(name, "CADTRAIN_DEEPSPEED") && strncmp(name, "CADTRAIN_COHORT_", 16) && !switch_of_the_program(name)) CAD_TRY(unknown_variable(c, name));
    }
    return CAD_OK;
}

/* ---- applying ---- */

static cad_status set_linked(cad_config *c, size_t at, const char *text, cadp_from from)
{
    from.linked = true;
    return cadp_conf_set_text(c, cadp_conf_row_of(at), text, &from);
}

/* What an option given on the command line (or in the environment) does to others. */
static cad_status apply_links(cad_config *c, const cadp_item *item, const cadp_from *from)
{
    const cad_options *o = &c->options;
    size_t at = cadp_conf_rows[item->row].at, tokenizer = offsetof(cad_options, model.tokenizer_name_or_path);
    const cadp_origin *its = &c->origin[cadp_conf_row_of(tokenizer)];
    const struct { size_t on; bool is_on; size_t off; } rivals[] = {
        {offsetof(cad_options, training.bf16), o->training.bf16, offsetof(cad_options, training.fp16)},
        {offsetof(cad_options, training.fp16), o->training.fp16, offsetof(cad_options, training.bf16)},
        {offsetof(cad_options, model.load_in_4bit), o->model.load_in_4bit, offsetof(cad_options, model.load_in_8bit)},
        {offsetof(cad_options, model.load_in_8bit), o->model.load_in_8bit, offsetof(cad_options, model.load_in_4bit)}};

    for (int i = 0; i < 4; i++)
        if (at == rivals[i].on) return rivals[i].is_on ? set_linked(c, rivals[i].off, "false", *from) : CAD_OK;
    if (at == offsetof(cad_options, model.model_name_or_path) && (its->level < CADP_ENVIRONMENT || its->linked))
        return set_linked(c, tokenizer, o->model.model_name_or_path ? o->model.model_name_or_path : "", *from);
    if (at == offsetof(cad_options, task.num_labels) && !item->exact) return set_linked(c, offsetof(cad_options, model.num_labels), item->value, *from);
    return CAD_OK;
}

static cad_status apply_table_item(cad_config *c, const cadp_item *item, const cadp_from *from)
{
    cad_tree *tree = NULL;
    cad_status st = cad_yaml_parse(&tree, item->value, strlen(item->value), item->name);

    if (st) st = cadp_conf_take_failure(c, st, "");
    else if (!strcmp(item->section, "deepspeed")) st = cadp_conf_apply_deepspeed(c, tree->root, from);
    else st = cadp_conf_apply_section(c, tree->root, item->section, from);
    cad_tree_close(&tree);
    return st;
}

static cad_status apply_item(cad_config *c, const cadp_item *item)
{
    cadp_from from = {.level = item->level, .name = item->name};
    const char *value = item->value;
    int before = c->mistake_count;

    if (item->section) return apply_table_item(c, item, &from);
    if (item->invert) value = value && !strcmp(value, "false") ? "true" : !value || !strcmp(value, "true") ? "false" : value;
    CAD_TRY(cadp_conf_set_text(c, item->row, value ? value : "true", &from));
    return c->mistake_count == before ? apply_links(c, item, &from) : CAD_OK;
}

cad_status cadp_conf_apply_given(cad_config *c, const cadp_given *g, int level)
{
    for (int i = 0; i < g->count; i++)
        if (g->item[i].level == level) CAD_TRY(apply_item(c, &g->item[i]));
    return CAD_OK;
}
