/* The embedded demo: extracts of synthetic people, prepared, and a small decoder with random weights, all of it ordinary files; then the ordinary program runs. */
#include "train_priv.h"

#include <cadtrain/cohort.h>
#include <cadtrain/embedded.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { PEOPLE = 4000 };
/* More events and a risk that shows more than in UK Biobank: few people and a minute must do. */
static const double incidence = 0.2, strength = 2.5;
static const char home[] = "outputs/demo";

/* Bytes that byte-level tokenizers show as themselves; the others follow from U+0100 on (families 12.3). */
static int shown_as(int byte)
{
    bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    int before = 0;

    if (itself) return byte;
    for (int b = 0; b < byte; b++) before += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    return 0x100 + before;
}

static cad_status put_vocabulary(cad_json *j)
{
    char key[4];

    CAD_TRY(cad_json_begin(j, "vocab", '{'));
    for (int b = 0; b < 256; b++) {
        int c = shown_as(b), n = 0;
        if (c < 0x80) key[n++] = (char)c;
        else {
            key[n++] = (char)(0xc0 | c >> 6);
            key[n++] = (char)(0x80 | (c & 0x3f));
        }
        key[n] = 0;
        CAD_TRY(cad_json_int(j, key, b));
    }
    return cad_json_end(j);
}

static cad_status put_added(cad_json *j, int id, const char *content)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_int(j, "id", id));
    CAD_TRY(cad_json_string(j, "content", content));
    CAD_TRY(cad_json_bool(j, "single_word", false));
    CAD_TRY(cad_json_bool(j, "lstrip", false));
    CAD_TRY(cad_json_bool(j, "rstrip", false));
    CAD_TRY(cad_json_bool(j, "normalized", false));
    CAD_TRY(cad_json_bool(j, "special", true));
    return cad_json_end(j);
}

static const char steps[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}";

static cad_status put_tokenizer(cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "version", "1.0"));
    CAD_TRY(cad_json_null(j, "truncation"));
    CAD_TRY(cad_json_null(j, "padding"));
    CAD_TRY(cad_json_begin(j, "added_tokens", '['));
    CAD_TRY(put_added(j, 256, "<|end|>"));
    CAD_TRY(put_added(j, 257, "<|pad|>"));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_null(j, "normalizer"));
    CAD_TRY(cad_json_raw(j, "pre_tokenizer", steps));
    CAD_TRY(cad_json_raw(j, "post_processor", steps));
    CAD_TRY(cad_json_raw(j, "decoder", steps));
    CAD_TRY(cad_json_begin(j, "model", '{'));
    CAD_TRY(cad_json_string(j, "type", "BPE"));
    CAD_TRY(put_vocabulary(j));
    CAD_TRY(cad_json_begin(j, "merges", '['));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_end(j));
    return cad_json_end(j);
}

static cad_status write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char *path;
    cad_status status;

    CAD_TRY(cad_path_join(&path, dir, name));
    status = cad_write_file(path, text, n);
    cad_free(&path);
    return status;
}

static cad_status write_tokenizer(const char *dir)
{
    static const char config[] = "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"eos_token\": \"<|end|>\", \"pad_token\": \"<|pad|>\"}\n";
    cad_json j = {0};
    cad_status status = put_tokenizer(&j);

    if (!status) status = write_text(dir, "tokenizer.json", j.text.data, j.text.size);
    if (!status) status = write_text(dir, "tokenizer_config.json", config, sizeof config - 1);
    cad_json_close(&j);
    return status;
}

static const char *embedded(const char *path)
{
    for (const cad_embedded *f = cad_embedded_files; f->path; f++)
        if (!strcmp(f->path, path)) return f->text;
    return NULL;
}

static cad_status write_rows(cad_st_writer *w, const cad_source *s, const cad_params *p)
{
    float *values;
    cad_status status = CAD_OK;

    for (int i = 0; i < p->count; i++) {
        int64_t shape[3];
        int dims = cad_param_shape(&p->row[i], shape);
        if (p->row[i].role != CAD_ROLE_HEAD) CAD_TRY(cad_st_declare(w, p->row[i].name, CAD_F32, shape, dims));
    }
    for (int i = 0; i < p->count && !status; i++) {
        if (p->row[i].role == CAD_ROLE_HEAD) continue;
        CAD_TRY(cad_alloc(&values, (size_t)p->row[i].elems, sizeof *values, "random weights"));
        if (!(status = cad_source_read(s, i, 0, p->row[i].elems, CAD_F32, values))) status = cad_st_write(w, values, (size_t)p->row[i].elems * sizeof *values);
        cad_free(&values);
    }
    return status ? status : cad_st_finish(w);
}

static cad_status write_weights(const char *dir, uint64_t seed)
{
    cad_arch arch;
    cad_method method = {.num_labels = 2, .compute = CAD_F32};
    cad_params *params = NULL;
    cad_source *source = NULL;
    cad_st_writer *w = NULL;
    cad_status status;

    CAD_TRY(cad_arch_read(&arch, dir));
    if (!(status = cad_params_open(&params, &arch, &method)) && !(status = cad_source_open(&source, NULL, NULL, params, true))) {
        cad_source_set_draw(source, seed, arch.initializer_range);
        if (!(status = cad_st_create(&w, dir, "model.safetensors", 0))) status = write_rows(w, source, params);
    }
    cad_st_abandon(&w);
    cad_source_close(&source);
    cad_params_close(&params);
    return status;
}

static cad_status write_model(const char *model, uint64_t seed)
{
    const char *config = embedded("configs/demo/config.json");

    if (!config) return cad_fail(CAD_EINTERNAL, "the demo's config.json is not in this program");
    CAD_TRY(cad_mkdirs(model));
    CAD_TRY(write_text(model, "config.json", config, strlen(config)));
    CAD_TRY(write_tokenizer(model));
    return write_weights(model, seed);
}

/* ---- its people ---- */

enum { MOST_FILES = 16 };
typedef struct files { char *name[MOST_FILES]; int count; } files;

static cad_status add_file(files *f, const char *dir, const cad_node *n)
{
    if (!n || n->kind != CAD_STRING || f->count == MOST_FILES) return cad_fail(CAD_EINTERNAL, "%s/cohort.yaml: expected names of files", dir);
    return cad_path_join(&f->name[f->count++], dir, n->text);
}

static cad_status add_files(files *f, const char *dir, const cad_node *list)
{
    for (const cad_node *n = list ? list->child : NULL; n; n = n->next) CAD_TRY(add_file(f, dir, n));
    return CAD_OK;
}

static void close_files(files *f)
{
    for (int i = 0; i < f->count; i++) cad_free(&f->name[i]);
}

/* Row ids begin with a salt, and rows stand in their order: the demo's is always the same, so that its figures are. */
static cad_status write_salt(const char *dir)
{
    char hex[65], path[3200];
    cad_sha256 s;

    cad_sha256_begin(&s);
    cad_sha256_add(&s, "demo", 4);
    cad_sha256_end(&s, hex);
    snprintf(path, sizeof path, "%s/prepared/private", dir);
    CAD_TRY(cad_mkdirs(path));
    return write_text(path, "salt", hex, 64);
}

static cad_status prepare(const cad_options *o, const char *dir, const cad_node *cohort)
{
    files extracts = {0}, tables = {0}, other = {0};
    char fields[3200], output[3200];
    const char *const keys[] = {"withdrawals", "kinship", "censoring"};
    cad_status st = add_files(&extracts, dir, cad_get(cohort, "extracts"));

    if (!st) st = add_files(&tables, dir, cad_get(cohort, "record_tables"));
    for (int i = 0; i < 3 && !st; i++) st = add_file(&other, dir, cad_get(cohort, keys[i]));
    snprintf(fields, sizeof fields, "%s/fields.yaml", dir);
    snprintf(output, sizeof output, "%s/prepared", dir);
    if (!st)
        st = cad_prepare_cohort(&(cad_cohort_plan){
            .extracts = {extracts.name, extracts.count}, .record_tables = {tables.name, tables.count}, .withdrawals = other.name[0], .kinship = other.name[1], .censoring = other.name[2],
            .fields = fields, .template_text = "{record} CAD?", .output_dir = output, .horizon_years = o->cohort.horizon_years, .validation = 0.15, .test = 0.25,
            .kinship_threshold = o->cohort.kinship_threshold, .columns = CAD_COLUMNS_ALL, .stratify = true, .seed = (uint64_t)o->runtime.seed});
    close_files(&extracts);
    close_files(&tables);
    close_files(&other);
    return st;
}

static cad_status write_people(const cad_options *o, const char *dir)
{
    const char *fields = embedded("configs/demo/fields.yaml");
    char path[3200];
    cad_tree *tree = NULL;
    cad_status st;

    if (!fields) return cad_fail(CAD_EINTERNAL, "the demo's fields.yaml is not in this program");
    CAD_TRY(cad_synth_cohort(&(cad_synth_plan){.output = dir, .people = PEOPLE, .seed = (uint64_t)o->runtime.seed, .incidence = incidence, .strength = strength}));
    CAD_TRY(write_text(dir, "fields.yaml", fields, strlen(fields)));
    CAD_TRY(write_salt(dir));
    snprintf(path, sizeof path, "%s/cohort.yaml", dir);
    CAD_TRY(cad_yaml_read(&tree, path));
    st = prepare(o, dir, cad_get(tree->root, "cohort"));
    cad_tree_close(&tree);
    return st;
}

static cad_status replace(char **option, const char *value)
{
    cad_free(option);
    return cad_strdup(option, value);
}

/* A run keeps its demo in the current folder; what only looks (check, plan) removes its own at the end. */
static cad_status choose_home(cad_run *r, char *out, size_t room)
{
    const char *tmp = getenv("TMPDIR");
    cad_status status = CAD_OK;

    snprintf(out, room, "%s", home);
    if (r->what.purpose != CAD_RUN_CHECK) return CAD_OK;
    if (!r->rank) {
        if (snprintf(out, room, "%s/cadtrain-demo-XXXXXX", tmp && *tmp ? tmp : "/tmp") >= (int)room || !mkdtemp(out)) status = cad_fail(CAD_ERESOURCE, "TMPDIR: cannot make a folder for the demo in it: %s", strerror(errno));
        if (!status) status = cad_strdup(&r->demo_dir, out);
    }
    if (!r->comm) return status;
    CAD_TRY(cad_comm_agree(r->comm, status));
    return cad_comm_bcast(r->comm, out, room, 0);
}

static cad_status use(char **option, const char *people, const char *split)
{
    char path[3300];

    snprintf(path, sizeof path, "%s/prepared/private/%s.jsonl", people, split);
    return replace(option, path);
}

/* Files given beside the demo's would be left aside in silence. */
static cad_status refuse_files(const cad_options *o)
{
    const struct { const char *key, *value; } own[] = {
        {"validation_file", o->dataset.validation_file}, {"test_file", o->dataset.test_file}, {"tokenizer_name_or_path", o->model.tokenizer_name_or_path}};

    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i].value) return cad_fail(CAD_EUSAGE, "%s %s: expected model_name_or_path or train_file beside it; without them the demo runs, on files of its own", own[i].key, own[i].value);
    return CAD_OK;
}

cad_status cadp_prepare_demo(cad_run *r)
{
    cad_options *o = r->o;
    char dir[3000], model[3072], people[3072];

    if (!o->demo) return CAD_OK;
    CAD_TRY(refuse_files(o));
    CAD_TRY(choose_home(r, dir, sizeof dir));
    snprintf(model, sizeof model, "%s/model", dir);
    snprintf(people, sizeof people, "%s/people", dir);
    if (!r->rank) CAD_TRY(write_model(model, (uint64_t)o->runtime.seed));
    if (!r->rank) CAD_TRY(write_people(o, people));
    CAD_TRY(replace(&o->model.model_name_or_path, model));
    CAD_TRY(replace(&o->model.tokenizer_name_or_path, model));
    CAD_TRY(use(&o->dataset.validation_file, people, "validation"));
    CAD_TRY(use(&o->dataset.test_file, people, "test"));
    return use(&o->dataset.train_file, people, "train");
}

void cadp_drop_demo(cad_run *r)
{
    if (r->demo_dir && cad_remove_tree(r->demo_dir)) cad_debug("%s is left behind", r->demo_dir);
    cad_free(&r->demo_dir);
}
