/* synth and prepare: from a seed to extracts, from extracts to records. */
#include "cli_priv.h"

#include <cadtrain/cohort.h>

cad_status cadp_cmd_synth(cadp_call *c)
{
    int64_t people = 0, seed = 42, padding = 0;

    CAD_TRY(cadp_call_whole(c, "people", 1, 4000000, &people));
    CAD_TRY(cadp_call_whole(c, "seed", 0, INT64_MAX, &seed));
    CAD_TRY(cadp_call_whole(c, "padding", 0, 100000, &padding));
    return cad_synth_cohort(&(cad_synth_plan){.output = cadp_call_value(c, "output"), .people = people, .seed = (uint64_t)seed, .dialect = cadp_call_value(c, "dialect"), .padding = padding});
}

/* Beside the configuration, else as it stands: as for the files of an experiment. */
static cad_status find_path(const cadp_call *c, char **path)
{
    const char *file = cad_config_file(c->config), *slash = file ? strrchr(file, '/') : NULL;
    cad_str beside = {0};
    cad_status st = CAD_OK;

    if (!*path || **path == '/' || !slash) return CAD_OK;
    st = cad_str_addf(&beside, "%.*s%s", (int)(slash - file + 1), file, *path);
    if (!st && cad_is_file(beside.data)) {
        cad_free(path);
        st = cad_strdup(path, beside.data);
    }
    cad_str_close(&beside);
    return st;
}

static cad_status find_paths(cadp_call *c)
{
    cad_options *o = c->o;
    char **one[] = {&o->cohort.withdrawals, &o->cohort.kinship, &o->cohort.fields, &o->cohort.phenotype, &o->cohort.censoring, &o->cohort.dictionary};

    for (size_t i = 0; i < sizeof one / sizeof *one; i++) CAD_TRY(find_path(c, one[i]));
    for (int i = 0; i < o->cohort.extracts.count; i++) CAD_TRY(find_path(c, &o->cohort.extracts.word[i]));
    for (int i = 0; i < o->cohort.record_tables.count; i++) CAD_TRY(find_path(c, &o->cohort.record_tables.word[i]));
    return CAD_OK;
}

static cad_cohort_list list_of(const cad_words *w) { return (cad_cohort_list){w->word, w->count}; }

cad_status cadp_cmd_prepare(cadp_call *c)
{
    const cad_options *o = c->o;
    cad_cohort_plan p = {
        .withdrawals = NULL, .horizon_years = o->cohort.horizon_years, .validation = o->cohort.validation, .test = o->cohort.test,
        .kinship_threshold = o->cohort.kinship_threshold, .prevalent = o->cohort.prevalent, .censored = o->cohort.censored, .split = o->cohort.split,
        .columns = o->cohort.columns, .stratify = o->cohort.stratify, .seed = (uint64_t)o->cohort.seed};

    CAD_TRY(find_paths(c));
    p.extracts = list_of(&o->cohort.extracts);
    p.record_tables = list_of(&o->cohort.record_tables);
    p.allow = list_of(&o->cohort.allow);
    p.test_centres = list_of(&o->cohort.test_centres);
    p.validation_centres = list_of(&o->cohort.validation_centres);
    p.withdrawals = o->cohort.withdrawals;
    p.kinship = o->cohort.kinship;
    p.fields = o->cohort.fields;
    p.phenotype = o->cohort.phenotype;
    p.censoring = o->cohort.censoring;
    p.dictionary = o->cohort.dictionary;
    p.template_text = o->cohort.template_text;
    p.output_dir = o->cohort.output_dir;
    return cad_prepare_cohort(&p);
}
