/* Writing OUT/checkpoint-N: aside, synced, read back, and only then under its name. Tensors stream to rank 0 one piece at a time. */
#include "keep_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { GIVE_UP_AFTER = 3 };

/* ---- state.h5 ---- */

static cad_status write_piece(void *with, const cad_param *p, const float *values, int64_t n)
{
    (void)p;
    return cad_h5_write(with, values, n);
}

/* Collective. /model/NAME, /optimizer/NAME/exp_avg, /optimizer/NAME/exp_avg_sq; of moments of 8 bits their scales too. */
static cad_status write_state_of(cadp_keeper *k, cad_h5 *h, int row, cad_state what, const char *format, cad_str *name)
{
    const cad_run *r = k->run;
    const cad_param *p = &r->params->row[row];
    int64_t shape[3];
    const int64_t count = cad_zero_state_count(r->zero, row, what);
    int dims = cad_param_shape(p, shape);
    bool scales = what == CAD_STATE_SCALE_AVG || what == CAD_STATE_SCALE_AVG_SQ;
    cad_str full = {0};

    if (!count) return CAD_OK;
    if (cadp_keeper_writes(k)) k->failed = cadp_file_name(name, &r->method, p);
    if (cadp_keeper_writes(k)) k->failed = cad_str_addf(&full, "/%s/%s%s", what == CAD_STATE_PARAM ? "model" : "optimizer", name->data, format);
    if (cadp_keeper_writes(k)) k->failed = cad_h5_begin(h, full.data, CAD_F32, scales ? &count : shape, scales ? 1 : dims);
    cad_str_close(&full);
    CAD_TRY(cadp_collect(k, row, what, write_piece, h));
    if (cadp_keeper_writes(k)) k->failed = cad_h5_end(h);
    return CAD_OK;
}

static cad_status write_rows(cadp_keeper *k, cad_h5 *h)
{
    static const struct { cad_state what; const char *end; } kinds[] = {{CAD_STATE_PARAM, ""}, {CAD_STATE_SCALE_AVG, "/exp_avg_scale"}, {CAD_STATE_SCALE_AVG_SQ, "/exp_avg_sq_scale"}, {CAD_STATE_EXP_AVG, "/exp_avg"}, {CAD_STATE_EXP_AVG_SQ, "/exp_avg_sq"}};
    cad_str name = {0};
    cad_status status = CAD_OK;

    for (int i = 0; i < k->run->params->count && !status; i++)
        for (size_t s = 0; s < CAD_STATES && !status && k->run->params->row[i].trains; s++) status = write_state_of(k, h, i, kinds[s].what, kinds[s].end, &name);
    cad_str_close(&name);
    return status;
}

static int64_t data_position(const cad_run *r)
{
    int64_t epoch = r->step / cad_max(1, r->facts.steps_per_epoch), in = r->step % cad_max(1, r->facts.steps_per_epoch);

    return epoch * r->facts.atoms_per_epoch + cad_min(in * r->facts.atoms_per_step, r->facts.atoms_per_epoch);
}

static cad_status write_numbers(const cad_run *r, cad_h5 *h)
{
    const struct { const char *name; int64_t value; } all[] = {
        {"step", r->step}, {"atoms_per_step", r->facts.atoms_per_step}, {"accumulation", r->o->training.gradient_accumulation_steps}, {"data_position", data_position(r)},
        {"seed", r->o->runtime.seed}, {"world_size", r->size}, {"zero_stage", r->o->runtime.zero_stage}, {"best_step", r->history.best_step}, {"bad_evals", r->history.bad_evals}};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) CAD_TRY(cad_h5_set_int(h, all[i].name, all[i].value));
    CAD_TRY(cad_h5_set_real(h, "epoch", cadp_epoch_at(r, r->step)));
    return cad_h5_set_real(h, "best_metric", r->history.best_metric);
}

static cad_status write_facts(const cad_run *r, cad_h5 *h)
{
    int64_t units = r->params->units;
    char config[65], data[65];

    cadp_text_digest(r->what.config_json ? r->what.config_json : "", config);
    cadp_data_digest(r, data);
    CAD_TRY(cad_h5_set_text(h, "format", "cadtrain-state-1"));
    CAD_TRY(cad_h5_set_text(h, "config_sha256", config));
    CAD_TRY(cad_h5_set_text(h, "data_sha256", data));
    CAD_TRY(write_numbers(r, h));
    CAD_TRY(cad_h5_begin(h, "/cadtrain/largest", CAD_F64, &units, 1));
    CAD_TRY(cad_h5_write(h, cad_zero_largest(r->zero), units));
    return cad_h5_end(h);
}

static cad_status read_back(const char *path)
{
    cad_h5 *h;
    cad_status status, closed;

    CAD_TRY(cad_h5_open(&h, path));
    status = cad_h5_verify(h);
    closed = cad_h5_close(&h);
    return status ? status : closed;
}

static cad_status write_state(cadp_keeper *k, const char *dir)
{
    cad_h5 *h = NULL;
    cad_str path = {0};
    cad_status status;

    if (cadp_keeper_writes(k)) k->failed = cadp_join(&path, dir, "state.h5");
    if (cadp_keeper_writes(k)) k->failed = cad_h5_create(&h, path.data);
    status = write_rows(k, h);
    if (cadp_keeper_writes(k)) k->failed = write_facts(k->run, h);
    if (k->failed) {
        if (cad_h5_close(&h)) cad_debug("%s", cad_reason()); /* the first reason stays */
    } else if (cad_h5_close(&h)) k->failed = CAD_ERESOURCE;
    if (!status && cadp_keeper_writes(k)) k->failed = read_back(path.data);
    cad_str_close(&path);
    return status;
}

/* ---- links ---- */

static cad_status trouble(const char *path, const char *what) { return cad_fail(CAD_ERESOURCE, "%s: cannot %s: %s", path, what, strerror(errno)); }

static cad_status move_link(const char *dir, const char *name, int64_t step)
{
    char target[48];
    cad_str aside = {0}, link = {0};
    cad_status status = cad_str_addf(&aside, "%s/.tmp-%s", dir, name);

    snprintf(target, sizeof target, "checkpoint-%" PRId64, step);
    if (!status) status = cadp_join(&link, dir, name);
    if (!status && unlink(aside.data) && errno != ENOENT) status = trouble(aside.data, "remove");
    if (!status && symlink(target, aside.data)) status = trouble(aside.data, "make the link");
    if (!status && rename(aside.data, link.data)) status = trouble(link.data, "move the link");
    if (!status) status = cad_fsync_dir(dir);
    cad_str_close(&aside);
    cad_str_close(&link);
    return status;
}

static int64_t linked_step(const char *dir, const char *name)
{
    char target[64];
    int64_t step = 0;
    cad_str link = {0};
    ssize_t n = cadp_join(&link, dir, name) ? -1 : readlink(link.data, target, sizeof target - 1);

    target[n > 0 ? n : 0] = 0;
    if (!cadp_checkpoint_number(target, &step)) step = 0;
    cad_str_close(&link);
    return step;
}

/* ---- publishing ---- */

/* Under another name first: a folder that is half removed must not look like a checkpoint. */
static cad_status remove_checkpoint(const char *dir, int64_t step)
{
    cad_str path = {0}, aside = {0};
    cad_status status = cadp_checkpoint_path(&path, dir, step);

    if (!status) status = cad_str_addf(&aside, "%s/.tmp-removed-%" PRId64, dir, step);
    if (!status) status = cad_remove_tree(aside.data);
    if (!status && rename(path.data, aside.data) && errno != ENOENT) status = trouble(path.data, "rename");
    if (!status) status = cad_remove_tree(aside.data);
    cad_str_close(&path);
    cad_str_close(&aside);
    return status;
}

/* The oldest that is neither the best nor the last goes, until as many are left as the limit says. */
static cad_status remove_oldest(const cad_run *r)
{
    const char *dir = r->o->output_dir;
    int64_t *steps, limit = r->o->training.save_total_limit, best = linked_step(dir, "best"), last = linked_step(dir, "last");
    int count, left;
    cad_status status;

    if (limit < 1) return CAD_OK;
    CAD_TRY(cadp_list_checkpoints(dir, &steps, &count));
    status = CAD_OK;
    left = count;
    for (int i = 0; i < count && left > limit && !status; i++) {
        if (steps[i] == best || steps[i] == last || steps[i] == r->history.best_step) continue;
        status = remove_checkpoint(dir, steps[i]);
        left--;
    }
    cad_free(&steps);
    return status;
}

/* A checkpoint of this number may lie there: damaged, or of a run that went on from an earlier one. */
static cad_status publish(const cad_run *r, const char *aside)
{
    cad_str path = {0};
    cad_status status = cadp_checkpoint_path(&path, r->o->output_dir, r->step);

    if (!status && cad_is_dir(path.data)) status = remove_checkpoint(r->o->output_dir, r->step);
    if (!status) status = cad_publish_dir(aside, path.data);
    cad_str_close(&path);
    return status;
}

static cad_status prepare(const cad_run *r, const char *aside)
{
    int64_t files = cadp_model_bytes(r) + 12 * r->params->trainable + (16 << 20);

    CAD_TRY(cad_remove_tree(aside));
    CAD_TRY(cad_need_space(r->o->output_dir, 2 * files));
    return cad_mkdirs(aside);
}

static cad_status complete(const cad_run *r, const char *aside)
{
    cad_str path = {0};
    cad_status status = cadp_join(&path, aside, "trainer_state.json");

    if (!status) status = cadp_write_trainer_state(r, path.data, true);
    cad_str_close(&path);
    if (!status) status = cadp_write_run_json_to(r, aside);
    if (!status) status = cadp_manifest_write(aside);
    if (!status) status = cadp_manifest_verify(aside);
    return status ? status : publish(r, aside);
}

static cad_status point(const cad_run *r, bool is_best)
{
    CAD_TRY(move_link(r->o->output_dir, "last", r->step));
    if (is_best) CAD_TRY(move_link(r->o->output_dir, "best", r->step));
    if (remove_oldest(r)) { /* too many checkpoints are no reason to count this one as lost */
        cad_warn("old checkpoints", "an old checkpoint stays: %s", cad_reason());
        cad_clear();
    }
    return CAD_OK;
}

static void drop_aside(const char *aside)
{
    if (aside && cad_remove_tree(aside)) cad_debug("%s is left behind", aside);
}

static cad_status write_all(cadp_keeper *k)
{
    cad_run *r = k->run;
    cad_str aside = {0};
    cad_status status;

    if (cadp_keeper_writes(k)) k->failed = cad_str_addf(&aside, "%s/.tmp-checkpoint-%" PRId64, r->o->output_dir, r->step);
    if (cadp_keeper_writes(k)) k->failed = prepare(r, aside.data);
    status = cadp_write_model_files(k, aside.data);
    if (!status) status = write_state(k, aside.data);
    if (!status && cadp_keeper_writes(k)) k->failed = complete(r, aside.data);
    if (status || k->failed) drop_aside(aside.data);
    cad_str_close(&aside);
    return status;
}

/* ---- the verdict ---- */

/* A disk that is full now may have room at the next checkpoint; one that stays full ends the run, because an unsaved run is lost work. */
static cad_status settle(cad_run *r, cad_status failed)
{
    int verdict = failed;
    bool passes = failed == CAD_ERESOURCE || failed == CAD_ECHECKPOINT;

    CAD_TRY(cad_comm_agree(r->comm, failed && !passes ? failed : CAD_OK));
    CAD_TRY(cad_comm_bcast(r->comm, &verdict, sizeof verdict, 0));
    if (!verdict) {
        r->failed_saves = 0;
        r->saved_step = r->step;
        return CAD_OK;
    }
    r->failed_saves++;
    if (r->failed_saves >= GIVE_UP_AFTER) {
        if (!r->rank) cad_advise("%d checkpoints in a row could not be written; the earlier ones are untouched", GIVE_UP_AFTER);
        return cad_comm_agree(r->comm, r->rank ? CAD_OK : CAD_ERESOURCE);
    }
    if (!r->rank) {
        cad_warn("checkpoints", "checkpoint-%" PRId64 " was not written: %s; training goes on", r->step, cad_reason());
        cad_clear();
    }
    return CAD_OK;
}

/* While rank 0 digests gigabytes the others only wait: rank 0's own watchdog is the one that counts. */
static cad_status wait_for_verdict(cad_run *r, cad_status failed)
{
    double limit = r->o->runtime.watchdog_seconds;
    cad_status status;

    if (r->rank) cad_watchdog_stop();
    status = settle(r, failed);
    if (r->rank && limit > 0 && !status) status = cad_watchdog_start(limit, r->rank);
    return status;
}

static cad_status save(cad_run *r, bool is_best)
{
    cadp_keeper k;
    cad_status status = CAD_OK;

    CAD_TRY(cadp_keeper_open(&k, r));
    if (r->saved_step != r->step) status = write_all(&k);
    if (!status && cadp_keeper_writes(&k)) k.failed = point(r, is_best);
    cadp_keeper_close(&k);
    CAD_TRY(status);
    return wait_for_verdict(r, k.failed);
}

cad_status cadp_checkpoint_save(cad_run *r, bool is_best)
{
    double began = cad_now();

    CAD_TRY(save(r, is_best));
    r->save_seconds = cad_max(r->save_seconds, cad_now() - began);
    if (!r->rank && r->saved_step == r->step) cad_info("Saving model checkpoint to %s/checkpoint-%" PRId64 " (%.2f s)", r->o->output_dir, r->step, cad_now() - began);
    return CAD_OK;
}
