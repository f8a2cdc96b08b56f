/* One command from its arguments to its exit code. Rank 0 reads the command line and tells the other ranks. */
#include "cli_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- arguments ---- */

bool cadp_names_experiment(const char *arg)
{
    const char *dot = strrchr(arg, '.');

    return arg[0] != '-' && dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml") || !strcmp(dot, ".json"));
}

/* The command's own first arguments, then the user's; a configuration may stand first without --config. */
static cad_status arguments(const cadp_command *command, int *argc, char ***argv)
{
    static char config[] = "--config";
    char **all = NULL;
    int n = 0;

    CAD_TRY(cad_alloc(&all, (size_t)*argc + 4, sizeof *all, "arguments"));
    for (int i = 0; command->prelude[i]; i++) all[n++] = (char *)(uintptr_t)command->prelude[i];
    if (*argc && command->marks & CADP_OPTIONS && cadp_names_experiment((*argv)[0])) all[n++] = config;
    for (int i = 0; i < *argc; i++) all[n++] = (*argv)[i];
    *argv = all;
    *argc = n;
    return CAD_OK;
}

static int flag_count(const cadp_command *command)
{
    int n = 0;

    while (command->flags && command->flags[n].name) n++;
    return n;
}

static cad_status copy_flags(cadp_call *c)
{
    int n = flag_count(c->command);

    CAD_TRY(cad_alloc(&c->flags, (size_t)n + 1, sizeof *c->flags, "flags"));
    for (int i = 0; i < n; i++) c->flags[i] = c->command->flags[i];
    return CAD_OK;
}

const cad_flag *cadp_call_flag(const cadp_call *c, const char *name)
{
    for (const cad_flag *f = c->flags; f->name; f++)
        if (!strcmp(f->name, name)) return f;
    return NULL;
}

bool cadp_call_given(const cadp_call *c, const char *name)
{
    const cad_flag *f = cadp_call_flag(c, name);

    return f && f->given;
}

const char *cadp_call_value(const cadp_call *c, const char *name)
{
    const cad_flag *f = cadp_call_flag(c, name);

    return f ? f->value : NULL;
}

cad_status cadp_call_whole(const cadp_call *c, const char *name, int64_t least, int64_t most, int64_t *out)
{
    const char *text = cadp_call_value(c, name);
    char *end;
    long long n;

    if (!text) return CAD_OK;
    errno = 0;
    n = strtoll(text, &end, 10);
    if (end == text || *end || errno || n < least || n > most)
        return cad_fail(CAD_EUSAGE, "--%s: expected a whole number from %lld to %lld, found \"%.60s\"", name, (long long)least, (long long)most, text);
    *out = n;
    return CAD_OK;
}

static cad_status check_required(const cadp_call *c)
{
    const char *const *name = c->command->required;

    for (int i = 0; i < 3 && name[i]; i++) {
        const char *value = cadp_call_value(c, name[i]);
        if (value && *value) continue;
        cad_advise("usage: cadtrain %s", c->command->usage);
        if (!*name[i]) return cad_fail(CAD_EUSAGE, "%s: expected an argument, found none", c->command->name);
        return cad_fail(CAD_EUSAGE, "--%s: expected a value, which %s needs, found nothing", name[i], c->command->name);
    }
    return CAD_OK;
}

static cad_status read_line(cadp_call *c, int argc, char **argv)
{
    cad_str json = {0};
    cad_status st;

    CAD_TRY(cad_config_open(&c->config, argc, argv, c->flags, c->command->marks & CADP_RUN));
    c->wants_print = cad_config_wants_print(c->config);
    if (!c->wants_print) CAD_TRY(check_required(c));
    if ((st = cad_config_json(c->config, &json))) cad_str_close(&json);
    c->config_json = json.data;
    return st;
}

/* ---- telling the other ranks ---- */

/* "1" or "0" for wants_print, then the configuration, then for each flag "0" (not given), "1" (no value) or "2" and its value; each ends in NUL. */
static cad_status pack(const cadp_call *c, cad_str *out)
{
    CAD_TRY(cad_str_add(out, c->wants_print ? "1" : "0", 2));
    CAD_TRY(cad_str_add(out, c->config_json, strlen(c->config_json) + 1));
    for (const cad_flag *f = c->flags; f->name; f++) {
        CAD_TRY(cad_str_addf(out, "%d%s", !f->given ? 0 : f->value ? 2 : 1, f->value ? f->value : ""));
        CAD_TRY(cad_str_add(out, "", 1));
    }
    return CAD_OK;
}

static cad_status unpack(cadp_call *c, char *at)
{
    c->wants_print = *at == '1';
    at += strlen(at) + 1;
    c->config_json = at;
    CAD_TRY(cad_config_from_json(&c->config, at, strlen(at)));
    for (cad_flag *f = c->flags; f->name; f++) {
        at += strlen(at) + 1;
        f->given = *at != '0';
        f->value = *at == '2' ? at + 1 : NULL;
    }
    return CAD_OK;
}

static cad_status tell(cadp_call *c)
{
    cad_str packed = {0};
    cad_status st = CAD_OK;
    int64_t n;

    if (c->size == 1) return CAD_OK;
    if (c->rank == 0) st = pack(c, &packed);
    n = (int64_t)packed.size;
    st = cad_comm_agree(c->comm, st);
    if (!st) st = cad_comm_bcast(c->comm, &n, sizeof n, 0);
    if (!st && c->rank) st = cad_alloc(&c->from_root, (size_t)n, 1, "configuration");
    st = cad_comm_agree(c->comm, st);
    if (!st) st = cad_comm_bcast(c->comm, c->rank ? c->from_root : packed.data, (size_t)n, 0);
    if (!st && c->rank) st = unpack(c, c->from_root);
    st = cad_comm_agree(c->comm, st);
    cad_str_close(&packed);
    return st;
}

static void say_source(const cadp_call *c)
{
    const char *line = cad_config_notes(c->config);

    cad_info("%s", cad_config_says(c->config));
    for (size_t n; *line; line += n + (line[n] == '\n')) {
        n = strcspn(line, "\n");
        cad_info("%.*s", (int)n, line);
    }
}

static cad_status open_configuration(cadp_call *c, int argc, char **argv)
{
    cad_status st = copy_flags(c);
    bool clean;

    if (!st && c->rank == 0) st = read_line(c, argc, argv);
    CAD_TRY(cad_comm_agree(c->comm, st));
    CAD_TRY(tell(c));
    c->o = cad_config_options(c->config);
    c->json = cadp_call_given(c, "json");
    clean = c->json || c->wants_print || c->command->marks & CADP_RESULTS || (cadp_call_value(c, "output") && !strcmp(cadp_call_value(c, "output"), "-"));
    cad_log_setup(c->rank, c->size, clean ? (cad_level)cad_min(CAD_LOG_WARNING, c->o->training.log_level) : (cad_level)c->o->training.log_level);
    if (c->rank == 0 && c->command->marks & CADP_OPTIONS) say_source(c);
    return CAD_OK;
}

static cad_status print_configuration(const cadp_call *c)
{
    cad_str text = {0};
    cad_status st;

    if (c->rank) return CAD_OK;
    st = cad_config_print(c->config, &text);
    if (!st) fputs(text.data, stdout);
    cad_str_close(&text);
    return st;
}

/* ---- running ---- */

static cad_status run(cadp_call *c, int argc, char **argv)
{
    cad_status st;

    CAD_TRY(open_configuration(c, argc, argv));
    if (c->wants_print) return print_configuration(c);
    if (c->command->marks & CADP_WATCHED) CAD_TRY(cad_watchdog_start(c->o->runtime.watchdog_seconds, c->rank));
    st = c->command->run(c);
    cad_watchdog_stop();
    return st;
}

static void close_call(cadp_call *c)
{
    if (c->config_json && !c->from_root) cad_free(&c->config_json);
    cad_free(&c->from_root);
    cad_config_close(&c->config);
    cad_free(&c->flags);
}

static void print_stop(const cadp_call *c)
{
    const char *advice = cad_advice();

    if (c->rank) return;
    fprintf(stderr, "cadtrain: %s\n%s%s%s", cad_reason()[0] ? cad_reason() : "stopped; a checkpoint is written, run again to go on", *advice ? "  " : "", advice, *advice ? "\n" : "");
}

static int exit_code(cad_status status) { return status == CAD_EPEER ? CAD_EINTERNAL : (int)status; }

/* A failure that all ranks know of is told by the lowest rank that has it and ends in order; one that this rank alone knows of ends the
 * other ranks at once. */
static int conclude(cadp_call *c, cad_status st)
{
    cad_status verdict;
    int teller = -1;

    if (!st && c->rank == 0 && (fflush(stdout) || ferror(stdout))) st = cad_fail(CAD_ERESOURCE, "standard output: cannot be written");
    verdict = cad_comm_verdict(c->comm, &teller);
    if (st == CAD_ESTOPPED) print_stop(c);
    else if (st && st != CAD_EPEER && (!verdict || teller < 0 || teller == c->rank)) cad_print_failure();
    if (st && st != CAD_ESTOPPED && !verdict && c->size > 1) cad_comm_abort(c->comm, (cad_status)exit_code(st));
    if (st && verdict) st = verdict;
    close_call(c);
    cad_comm_close(&c->comm);
    return exit_code(st);
}

static cad_status open_comm(cad_comm **out, const cadp_command *command)
{
    bool several = command->marks & CADP_COMPUTES && cadp_launched();

    if (command->marks & CADP_LIBRARY && !cad_comm_open(out, "mpi")) return CAD_OK;
    cad_clear();
    return cad_comm_open(out, several && !(command->marks & CADP_LIBRARY) ? "mpi" : "self");
}

int cadp_call_run(const cadp_command *command, int argc, char **argv)
{
    cadp_call c = {.command = command};
    cad_status st = open_comm(&c.comm, command);
    int code;

    if (st) {
        if (cadp_launcher_rank() == 0) cad_print_failure();
        return exit_code(st);
    }
    c.rank = cad_comm_rank(c.comm);
    c.size = cad_comm_size(c.comm);
    cad_log_setup(c.rank, c.size, CAD_LOG_INFO);
    st = arguments(command, &argc, &argv);
    if (!st) st = run(&c, argc, argv);
    code = conclude(&c, st);
    cad_free(&argv);
    return code;
}
