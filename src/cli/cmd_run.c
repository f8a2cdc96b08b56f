/* The commands that open a run. */
#include "cli_priv.h"

/* A rank that cannot open its run leaves the others inside theirs: cad_run_open agrees on that itself. */
static cad_status open_run(cad_run **out, cadp_call *c, cad_purpose_of_run purpose)
{
    cad_run_options what = {.purpose = purpose, .checkpoint = cadp_call_value(c, "checkpoint"), .input = cadp_call_value(c, "input"), .config_json = c->config_json};

    return cad_run_open(out, c->o, c->comm, &what);
}

cad_status cadp_cmd_train(cadp_call *c)
{
    cad_run *r = NULL;
    cad_status st;

    cad_signals_setup();
    st = open_run(&r, c, CAD_RUN_TRAIN);
    if (!st) st = cad_run_train(r);
    cad_run_close(&r);
    if (!st && c->o->demo && c->o->training.run_test_after_train && !c->rank) st = cadp_report_demo(c->o);
    return st;
}

cad_status cadp_cmd_eval(cadp_call *c)
{
    cad_run *r = NULL;
    cad_status st = open_run(&r, c, CAD_RUN_EVAL);

    if (!st) st = cad_run_evaluate(r);
    cad_run_close(&r);
    return st;
}

cad_status cadp_cmd_predict(cadp_call *c)
{
    cad_run *r = NULL;
    cad_status st = open_run(&r, c, CAD_RUN_PREDICT);

    if (!st) st = cad_run_predict(r, cadp_call_value(c, "output"));
    cad_run_close(&r);
    return st;
}

cad_status cadp_cmd_explain(cadp_call *c)
{
    cad_run *r = NULL;
    int64_t rows = 0;
    cad_status st;

    CAD_TRY(cadp_call_whole(c, "rows", 1, INT64_MAX, &rows));
    st = open_run(&r, c, CAD_RUN_EXPLAIN);
    if (!st) st = cad_run_explain(r, cadp_call_value(c, "output"), rows);
    cad_run_close(&r);
    return st;
}

static cad_status read_pooling(const char *word, cad_pooling *out)
{
    static const char *const words[] = {[CAD_POOLING_LAST] = "last", [CAD_POOLING_MEAN] = "mean", [CAD_POOLING_FIRST] = "cls"};

    *out = CAD_POOLING_LAST;
    if (!word) return CAD_OK;
    for (int i = 0; i < 3; i++)
        if (!strcmp(word, words[i])) {
            *out = (cad_pooling)i;
            return CAD_OK;
        }
    return cad_fail(CAD_EUSAGE, "--pooling: expected last, mean or cls, found \"%.60s\"", word);
}

cad_status cadp_cmd_embed(cadp_call *c)
{
    cad_run *r = NULL;
    cad_pooling how;
    cad_status st = cad_comm_agree(c->comm, read_pooling(cadp_call_value(c, "pooling"), &how));

    if (!st) st = open_run(&r, c, CAD_RUN_EMBED);
    if (!st) st = cad_run_embed(r, how);
    cad_run_close(&r);
    return st;
}

/* Where each value comes from is known to rank 0 alone, and printed by it. */
static cad_status describe_configuration(cadp_call *c, cad_str *sources, cad_str *lines)
{
    if (c->rank) return CAD_OK;
    CAD_TRY(cad_config_sources_json(c->config, sources));
    return cad_config_print(c->config, lines);
}

cad_status cadp_cmd_score(cadp_call *c)
{
    cad_run *r = NULL;
    cad_status st = open_run(&r, c, CAD_RUN_SCORE);

    if (!st) st = cad_run_score(r);
    cad_run_close(&r);
    return st;
}

cad_status cadp_cmd_check(cadp_call *c)
{
    cad_run *r = NULL;
    cad_str sources = {0}, lines = {0};
    cad_status st = cad_comm_agree(c->comm, describe_configuration(c, &sources, &lines));

    if (!st) st = open_run(&r, c, CAD_RUN_CHECK);
    if (!st) st = cad_run_check(r, c->config_json, sources.data ? sources.data : "", lines.data ? lines.data : "", c->json);
    cad_run_close(&r);
    cad_str_close(&sources);
    cad_str_close(&lines);
    return st;
}
