/* The output directory: whose it is, what may be removed from it, and that it can be written to before anything is loaded. */
#include "keep_priv.h"
#include <cadtrain/version.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names ---- */

static const char marker[] = ".cadtrain"; /* its presence says that a run of ours owns the folder */

bool cadp_checkpoint_number(const char *name, int64_t *step)
{
    char *end;

    if (strncmp(name, "checkpoint-", 11) || name[11] < '1' || name[11] > '9') return false;
    errno = 0;
    *step = strtoll(name + 11, &end, 10);
    return !errno && !*end;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n >= m && !strcmp(name + n - m, end);
}

/* "log.jsonl.tmp-4711-0": a file that a dead run was writing. */
static bool is_aside(const char *name)
{
    const char *at = strstr(name, ".tmp-");

    if (!strncmp(name, ".tmp-", 5)) return true;
    return at && isdigit((unsigned char)at[5]) && !at[5 + strspn(at + 5, "0123456789-")];
}

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (!strcmp(name, *names)) return true;
    return false;
}

/* What says nothing about a run that wrote results: it may lie in a folder that counts as empty. */
static bool is_leftover(const char *name)
{
    static const char *const names[] = {".lock", marker, "STOP", "SAVE", NULL};

    return is_one_of(name, names) || is_aside(name);
}

/* What a run writes while it goes on, before its first checkpoint. */
static bool is_log(const char *name)
{
    static const char *const names[] = {"log.jsonl", "metrics.csv", "runs", NULL};

    return is_one_of(name, names) || !strcmp(name, "eval_results.json") || !strcmp(name, "all_results.json");
}

static bool is_prediction(const char *name)
{
    static const char *const names[] = {"metrics.json", "predictions.jsonl", "report.html", "samples.jsonl", "clinical", NULL};

    return is_one_of(name, names) || is_aside(name);
}

static bool is_model_file(const char *name)
{
    static const char *const names[] = {"config.json", "generation_config.json", "model.safetensors.index.json", "adapter_config.json", "README.md", "head_columns.json", NULL};

    return is_one_of(name, names) || is_one_of(name, cadp_tokenizer_files) || (ends_with(name, ".safetensors") && (!strncmp(name, "model", 5) || !strncmp(name, "adapter_model", 13)));
}

static bool is_ours(const char *name)
{
    static const char *const names[] = {"best", "last", "run.json", "trainer_state.json", "predictions", NULL};
    int64_t step;

    return is_leftover(name) || is_log(name) || is_prediction(name) || is_model_file(name) || is_one_of(name, names) || ends_with(name, "_results.json") || cadp_checkpoint_number(name, &step);
}

/* ---- lists ---- */

typedef cad_status (*entry_seer)(void *with, const char *dir, const char *name);

static cad_status each_entry(const char *dir, entry_seer see, void *with)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    cad_status status = CAD_OK;

    if (!d) return errno == ENOENT ? CAD_OK : cad_fail(CAD_ERESOURCE, "%s: cannot list: %s", dir, strerror(errno));
    while (!status && (e = readdir(d)))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) status = see(with, dir, e->d_name);
    closedir(d);
    return status;
}

typedef struct steps { int64_t *step; int count; } steps;

static cad_status add_step(void *with, const char *dir, const char *name)
{
    steps *s = with;
    int64_t step;

    (void)dir;
    if (!cadp_checkpoint_number(name, &step)) return CAD_OK;
    if (s->count % 16 == 0) CAD_TRY(cad_grow(&s->step, (size_t)s->count + 16, sizeof *s->step, "a list of checkpoints"));
    s->step[s->count++] = step;
    return CAD_OK;
}

static int rising(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

cad_status cadp_list_checkpoints(const char *dir, int64_t **out, int *count)
{
    steps s = {0};
    cad_status status = each_entry(dir, add_step, &s);

    if (status) cad_free(&s.step);
    if (s.step) qsort(s.step, (size_t)s.count, sizeof *s.step, rising);
    *out = s.step;
    *count = status ? 0 : s.count;
    return status;
}

cad_status cadp_checkpoint_path(cad_str *out, const char *dir, int64_t step)
{
    out->size = 0;
    return cad_str_addf(out, "%s/checkpoint-%" PRId64, dir, step);
}

cadp_resume cadp_resume_kind(const cad_options *o)
{
    const char *r = o->training.resume_from_checkpoint;

    if (!r || !*r || !strcmp(r, "none")) return CADP_RESUME_NONE;
    return !strcmp(r, "last") ? CADP_RESUME_LAST : !strcmp(r, "auto") ? CADP_RESUME_AUTO : CADP_RESUME_PATH;
}

/* ---- what is there ---- */

/* ours: the first that is called like what a run writes. found: the first of all. */
typedef struct contents { bool marked; int checkpoints, finished, logs; char ours[256], found[256]; } contents;

static cad_status see_entry(void *with, const char *dir, const char *name)
{
    contents *c = with;
    int64_t step;

    (void)dir;
    if (!strcmp(name, marker)) c->marked = true;
    if (is_leftover(name)) return CAD_OK;
    if (!c->found[0]) snprintf(c->found, sizeof c->found, "%.250s", name);
    if (!is_ours(name)) return CAD_OK;
    if (!c->ours[0]) snprintf(c->ours, sizeof c->ours, "%.250s", name);
    if (cadp_checkpoint_number(name, &step)) c->checkpoints++;
    else if (is_log(name)) c->logs++;
    else if (strcmp(name, "best") && strcmp(name, "last")) c->finished++;
    return CAD_OK;
}

static bool lies_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

/* A model that the run reads must not be among what it removes. */
static cad_status check_sources(const cad_run *r, const char *dir)
{
    const char *sources[] = {r->model_dir, r->adapter_dir, r->tokenizer_dir};
    char real[PATH_MAX], source[PATH_MAX];

    if (!realpath(dir, real)) return CAD_OK;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (sources[i] && realpath(sources[i], source) && lies_in(source, real))
            return cad_fail(CAD_EUSAGE, "output_dir %s: expected a folder that the run does not read, found the model %s in it", dir, sources[i]);
    return CAD_OK;
}

static cad_status refuse(const char *dir, const char *name)
{
    cad_advise("--overwrite-output-dir true removes what an earlier run wrote; --resume-from-checkpoint last (or auto) goes on with it");
    return cad_fail(CAD_EUSAGE, "output_dir %s: expected an empty folder, found \"%s\" in it", dir, name);
}

/* What to do with a folder that is there. */
typedef enum verdict { USE_AS_IT_IS, CLEAR_FIRST } verdict;

static cad_status judge(const cad_run *r, const char *dir, verdict *out)
{
    cadp_resume kind = cadp_resume_kind(r->o);
    contents c = {0};

    *out = USE_AS_IT_IS;
    CAD_TRY(each_entry(dir, see_entry, &c));
    if ((kind == CADP_RESUME_LAST || kind == CADP_RESUME_AUTO) && c.checkpoints) return CAD_OK;
    if (kind == CADP_RESUME_LAST) return cad_fail(CAD_ECHECKPOINT, "resume_from_checkpoint last: expected a checkpoint-N in %s, found none", dir);
    if (kind == CADP_RESUME_PATH && c.checkpoints && c.marked) {
        char real[PATH_MAX], from[PATH_MAX];
        if (realpath(dir, real) && realpath(r->o->training.resume_from_checkpoint, from) && lies_in(from, real)) return CAD_OK;
    }
    if (!c.found[0]) return CAD_OK;
    *out = c.marked ? CLEAR_FIRST : USE_AS_IT_IS;
    if (kind == CADP_RESUME_AUTO && c.marked && !c.finished) return CAD_OK; /* a run that ended before its first checkpoint */
    if (!r->o->training.overwrite_output_dir) return refuse(dir, c.found);
    if (!c.marked && c.ours[0]) return cad_fail(CAD_EUSAGE, "output_dir %s: expected a folder that a run of cadtrain wrote, found \"%s\" and no %s: nothing is removed", dir, c.ours, marker);
    return check_sources(r, dir);
}

/* ---- making it ours ---- */

static cad_status remove_path(const char *path)
{
    struct stat st;

    if (lstat(path, &st)) return errno == ENOENT ? CAD_OK : cad_fail(CAD_ERESOURCE, "%s: cannot look at it: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return cad_remove_tree(path);
    return unlink(path) && errno != ENOENT ? cad_fail(CAD_ERESOURCE, "%s: cannot remove: %s", path, strerror(errno)) : CAD_OK;
}

static cad_status remove_prediction(void *with, const char *dir, const char *name)
{
    cad_str path = {0};
    cad_status status = CAD_OK;

    (void)with;
    if (is_prediction(name) && !(status = cadp_join(&path, dir, name))) status = remove_path(path.data);
    cad_str_close(&path);
    return status;
}

/* What else lies in the folder stays, and with it the folder. */
static cad_status remove_predictions(const char *dir)
{
    struct stat st;

    if (lstat(dir, &st) || !S_ISDIR(st.st_mode)) return remove_path(dir); /* a link: what it leads to is another's */
    CAD_TRY(each_entry(dir, remove_prediction, NULL));
    return rmdir(dir) && errno != ENOTEMPTY && errno != EEXIST ? cad_fail(CAD_ERESOURCE, "%s: cannot remove: %s", dir, strerror(errno)) : CAD_OK;
}

static cad_status remove_ours(void *with, const char *dir, const char *name)
{
    bool all = *(const bool *)with;
    cad_str path = {0};
    cad_status status = CAD_OK;

    if (!strcmp(name, ".lock") || !strcmp(name, marker)) return CAD_OK;
    if (!(all ? is_ours(name) : is_leftover(name))) return CAD_OK;
    if (!(status = cadp_join(&path, dir, name))) status = strcmp(name, "predictions") ? remove_path(path.data) : remove_predictions(path.data);
    cad_str_close(&path);
    return status;
}

static cad_status put_marker(cad_json *j, const cad_run *r)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "program", "cadtrain"));
    CAD_TRY(cad_json_string(j, "version", CAD_VERSION));
    CAD_TRY(cad_json_string(j, "experiment_name", r->o->experiment_name));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

/* Also the proof that this folder can be written, synced and renamed in: before hours of work depend on it. */
static cad_status write_marker(const cad_run *r, const char *dir)
{
    cad_json j = {0};
    cad_str path = {0};
    cad_status status = put_marker(&j, r);

    if (!status) status = cadp_join(&path, dir, marker);
    if (!status) status = cad_write_file(path.data, j.text.data, j.text.size);
    cad_str_close(&path);
    cad_json_close(&j);
    return status;
}

/* Rows of people may be in what follows: nobody else may read or plant anything here. */
static cad_status make_private(const char *dir)
{
    struct stat st;

    if (stat(dir, &st)) return cad_fail(CAD_ERESOURCE, "%s: cannot look at it: %s", dir, strerror(errno));
    if (st.st_uid != geteuid() && geteuid()) return cad_fail(CAD_ERESOURCE, "output_dir %s: expected a folder of this user, found another's", dir);
    if ((st.st_mode & 077) && chmod(dir, 0700)) return cad_fail(CAD_ERESOURCE, "output_dir %s: cannot be made private: %s", dir, strerror(errno));
    return CAD_OK;
}

static cad_status take_over(cad_run *r, const char *dir)
{
    bool all = false;
    verdict v;

    CAD_TRY(cadp_lock_take(&r->lock, dir));
    CAD_TRY(judge(r, dir, &v)); /* again: another run may have written between the first look and the lock */
    CAD_TRY(make_private(dir));
    CAD_TRY(write_marker(r, dir));
    r->clears = v == CLEAR_FIRST;
    return each_entry(dir, remove_ours, &all);
}

cad_status cadp_output_clear(const cad_run *r)
{
    bool all = true;

    return r->clears ? each_entry(r->o->output_dir, remove_ours, &all) : CAD_OK;
}

cad_status cadp_output_open(cad_run *r)
{
    const char *dir = r->o->output_dir;
    verdict v;
    cad_status status;

    if (!dir || !*dir) return cad_fail(CAD_EUSAGE, "output_dir: expected a folder, found none");
    if (!access(dir, F_OK) && !cad_is_dir(dir)) return cad_fail(CAD_EUSAGE, "output_dir %s: expected a folder, found a file", dir);
    CAD_TRY(cadp_lock_probe(dir));
    CAD_TRY(judge(r, dir, &v));
    CAD_TRY(cad_mkdirs(dir));
    status = take_over(r, dir);
    if (status) cadp_output_close(r);
    return status;
}

void cadp_output_close(cad_run *r) { cadp_lock_release(&r->lock, r->o->output_dir); }
