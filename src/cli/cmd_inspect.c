/* inspect: what a directory or file holds, as one JSON object, printed as it is or as lines. */
#include "cli_priv.h"

#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

typedef struct view { cad_json j; int64_t elems, bytes; bool damaged; cad_h5 *h5; } view;

/* ---- tensors ---- */

static cad_status put_tensor(view *v, const char *name, const char *kind, const int64_t *shape, int dims, int64_t bytes, XXH128_hash_t digest)
{
    char hex[40];
    int64_t elems = 1;

    CAD_TRY(cad_json_begin(&v->j, NULL, '{'));
    CAD_TRY(cad_json_string(&v->j, "name", name));
    CAD_TRY(cad_json_string(&v->j, "dtype", kind));
    CAD_TRY(cad_json_begin(&v->j, "shape", '['));
    for (int i = 0; i < dims; i++) {
        CAD_TRY(cad_json_int(&v->j, NULL, shape[i]));
        elems *= shape[i];
    }
    CAD_TRY(cad_json_end(&v->j));
    snprintf(hex, sizeof hex, "%016llx%016llx", (unsigned long long)digest.high64, (unsigned long long)digest.low64);
    CAD_TRY(cad_json_string(&v->j, "xxh3_128", hex));
    v->elems += elems;
    v->bytes += bytes;
    return cad_json_end(&v->j);
}

static cad_status put_stored(view *v, const cad_st_tensor *t)
{
    return put_tensor(v, t->name, cad_st_kind(t), t->shape, t->dims, (int64_t)t->bytes, XXH3_128bits(t->data, t->bytes));
}

static cad_status put_safetensors(view *v, const char *path)
{
    cad_st *st = NULL;
    cad_status status = cad_st_open(&st, path);

    if (!status) status = cad_json_begin(&v->j, "tensors", '[');
    for (int i = 0; !status && i < cad_st_count(st); i++) {
        const cad_st_tensor *t = cad_st_at(st, i);
        status = put_stored(v, t);
    }
    if (!status) status = cad_json_end(&v->j);
    cad_st_close(&st);
    return status;
}

enum { PIECE = 1 << 18 }; /* elements */
typedef struct digest { XXH3_state_t state; char piece[PIECE * 8]; } digest;

static cad_status digest_dataset(digest *d, cad_h5 *h, const char *name, cad_dtype dtype, int64_t elems)
{
    XXH3_128bits_reset(&d->state);
    for (int64_t at = 0; at < elems; at += PIECE) {
        int64_t n = cad_min(PIECE, elems - at);
        CAD_TRY(cad_h5_read(h, name, dtype, at, n, d->piece));
        XXH3_128bits_update(&d->state, d->piece, (size_t)n * cad_dtype_bytes(dtype));
    }
    return CAD_OK;
}

static cad_status put_dataset(void *with, const char *name)
{
    view *v = with;
    digest *d = NULL;
    cad_dtype dtype;
    int64_t shape[CAD_MAX_DIMS], elems = 1;
    int dims;
    cad_status st;

    CAD_TRY(cad_h5_shape(v->h5, name, &dtype, shape, &dims));
    for (int i = 0; i < dims; i++) elems *= shape[i];
    CAD_TRY(cad_alloc(&d, 1, sizeof *d, "a piece of a data set"));
    st = digest_dataset(d, v->h5, name, dtype, elems);
    if (!st) st = put_tensor(v, name, cad_dtype_name(dtype), shape, dims, elems * (int64_t)cad_dtype_bytes(dtype), XXH3_128bits_digest(&d->state));
    cad_free(&d);
    return st;
}

/* The attributes of contract section 5; each is of one kind, and a file may lack some. */
static cad_status put_attributes(view *v)
{
    static const char *const numbers[] = {"step", "atoms_per_step", "data_position", "seed", "world_size", "zero_stage"};
    static const char *const texts[] = {"format", "config_sha256", "data_sha256"};
    int64_t n;
    double x;

    CAD_TRY(cad_json_begin(&v->j, "state", '{'));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *text = NULL;
        cad_status st = cad_h5_get_text(v->h5, texts[i], &text) ? CAD_OK : cad_json_string(&v->j, texts[i], text);
        cad_free(&text);
        CAD_TRY(st);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!cad_h5_get_int(v->h5, numbers[i], &n)) CAD_TRY(cad_json_int(&v->j, numbers[i], n));
    if (!cad_h5_get_real(v->h5, "epoch", &x)) CAD_TRY(cad_json_real(&v->j, "epoch", x));
    cad_clear();
    return cad_json_end(&v->j);
}

static cad_status put_open_hdf5(view *v)
{
    CAD_TRY(cad_h5_verify(v->h5));
    CAD_TRY(put_attributes(v));
    CAD_TRY(cad_json_begin(&v->j, "state_tensors", '['));
    CAD_TRY(cad_h5_each(v->h5, "/", put_dataset, v));
    return cad_json_end(&v->j);
}

static cad_status put_hdf5(view *v, const char *path)
{
    cad_status st = cad_h5_open(&v->h5, path), closed;

    if (!st) st = put_open_hdf5(v);
    closed = cad_h5_close(&v->h5);
    return st ? st : closed;
}

/* ---- small files ---- */

static cad_status put_keys(view *v, const char *path, const char *key, const char *const *names)
{
    cad_tree *tree = NULL;
    cad_status st = cad_json_read(&tree, path, 16 << 20, CAD_EMODEL);

    if (!st) st = cad_json_begin(&v->j, key, '{');
    for (int i = 0; !st && names[i]; i++) {
        const cad_node *n = cad_get(tree->root, names[i]);
        if (!n) n = cad_get(cad_get(tree->root, "text_config"), names[i]);
        if (n) st = cad_json_node(&v->j, names[i], n);
    }
    if (!st) st = cad_json_end(&v->j);
    cad_tree_close(&tree);
    return st;
}

static cad_status put_tokenizer(view *v, const char *dir)
{
    cad_tokenizer *t = NULL;
    cad_status st = cad_tokenizer_open(&t, dir);

    if (!st) st = cad_json_begin(&v->j, "tokenizer", '{');
    if (!st) st = cad_json_int(&v->j, "size", cad_tokenizer_size(t));
    if (!st) st = cad_json_int(&v->j, "pad_id", cad_tokenizer_pad(t));
    if (!st) st = cad_json_string(&v->j, "sha256", cad_tokenizer_digest(t));
    if (!st) st = cad_json_end(&v->j);
    cad_tokenizer_close(&t);
    return st;
}

/* ---- the manifest of a checkpoint ---- */

static const char *state_of(const char *path, const char *expected)
{
    char hex[65];

    if (!cad_is_file(path)) return "missing";
    if (cad_sha256_file(path, hex, CAD_ECHECKPOINT)) {
        cad_clear();
        return "unreadable";
    }
    return strcmp(hex, expected) ? "damaged" : "intact";
}

static cad_status put_file(view *v, const char *dir, const cad_node *file)
{
    const char *expected, *state;
    char *path = NULL;
    cad_status st;

    if (strchr(file->key, '/') || file->key[0] == '.' || !cad_get_string(file, "sha256", &expected, NULL) || !expected)
        return cad_fail(CAD_ECHECKPOINT, "%s/manifest.json:%d:%d: expected a file of this folder with its SHA-256", dir, file->key_line, file->key_column);
    CAD_TRY(cad_path_join(&path, dir, file->key));
    state = state_of(path, expected);
    v->damaged |= strcmp(state, "intact") != 0;
    st = cad_json_begin(&v->j, NULL, '{');
    if (!st) st = cad_json_string(&v->j, "name", file->key);
    if (!st) st = cad_json_string(&v->j, "state", state);
    if (!st) st = cad_json_string(&v->j, "sha256", expected);
    if (!st) st = cad_json_end(&v->j);
    cad_free(&path);
    return st;
}

static cad_status put_manifest(view *v, const char *dir, const char *path)
{
    cad_tree *tree = NULL;
    const cad_node *files;
    cad_status st = cad_json_read(&tree, path, 1 << 20, CAD_ECHECKPOINT);

    if (st) return st;
    files = cad_get(tree->root, "files");
    if (!files || files->kind != CAD_TABLE) st = cad_fail(CAD_ECHECKPOINT, "%s: expected a table \"files\"", path);
    if (!st) st = cad_json_begin(&v->j, "files", '[');
    for (const cad_node *f = files ? files->child : NULL; f && !st; f = f->next) st = put_file(v, dir, f);
    if (!st) st = cad_json_end(&v->j);
    cad_tree_close(&tree);
    return st;
}

/* ---- what lies at a path ---- */

/* What the family's row and config.json come to; a model that is not computed is inspected nevertheless. */
static cad_status put_facts(view *v, const char *dir)
{
    cad_arch *a;
    cad_status st;

    CAD_TRY(cad_alloc(&a, 1, sizeof *a, "the architecture"));
    if (!cad_arch_read(a, dir)) st = cad_arch_json(&v->j, "facts", a);
    else {
        char reason[512];
        snprintf(reason, sizeof reason, "%s", cad_reason());
        cad_clear();
        st = cad_json_string(&v->j, "refused", reason);
    }
    cad_free(&a);
    return st;
}

static cad_status put_config(view *v, const char *dir, const char *path)
{
    static const char *const names[] = {"architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                        "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "num_labels", "dtype", "torch_dtype", NULL};

    CAD_TRY(put_keys(v, path, "config", names));
    return put_facts(v, dir);
}

static cad_status put_adapter_config(view *v, const char *dir, const char *path)
{
    static const char *const names[] = {"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters", "modules_to_save", "use_rslora", "use_dora",
                                        "base_model_name_or_path", NULL};
    (void)dir;
    return put_keys(v, path, "adapter", names);
}

static cad_status put_tokenizer_of(view *v, const char *dir, const char *path)
{
    (void)path;
    return put_tokenizer(v, dir);
}

static cad_status put_state(view *v, const char *dir, const char *path)
{
    (void)dir;
    return v->damaged ? CAD_OK : put_hdf5(v, path); /* libhdf5 sees only what is as it was written */
}

static cad_status put_weights(view *v, const char *dir, const char *path)
{
    (void)path;
    return v->damaged ? CAD_OK : put_safetensors(v, dir);
}

/* ---- GGUF: one file with everything ---- */

static cad_status put_gguf_config(view *v, const char *path)
{
    cad_tree *tree = NULL;
    char *text;
    size_t n;
    cad_status st = cad_arch_text(&text, &n, path);

    if (!st) st = cad_json_parse(&tree, text, n, path, CAD_EMODEL);
    if (!st) st = cad_json_node(&v->j, "config", tree->root);
    cad_tree_close(&tree);
    cad_free(&text);
    return st;
}

static cad_status put_gguf(view *v, const char *path)
{
    cad_gguf *g = NULL;
    cad_status st = cad_gguf_open(&g, path);

    if (!st) st = put_gguf_config(v, path);
    if (!st) st = put_tokenizer(v, path);
    if (!st) st = cad_json_begin(&v->j, "tensors", '[');
    for (int i = 0; !st && i < cad_gguf_count(g); i++) st = put_stored(v, cad_gguf_at(g, i));
    if (!st) st = cad_json_end(&v->j);
    cad_gguf_close(&g);
    return st;
}

/* In the order in which the parts are printed; of several weights the first is taken, as when a model is loaded. */
static const struct { const char *file, *kind; bool weights; cad_status (*put)(view *v, const char *dir, const char *path); } parts[] = {
    {"manifest.json", "checkpoint", false, put_manifest},          {"config.json", "model", false, put_config},
    {"adapter_config.json", "adapter", false, put_adapter_config}, {"tokenizer.json", "tokenizer", false, put_tokenizer_of},
    {"model.safetensors", "weights", true, put_weights},           {"model.safetensors.index.json", "weights", true, put_weights},
    {"adapter_model.safetensors", "weights", true, put_weights},   {"state.h5", "state", false, put_state},
};

enum { PARTS = sizeof parts / sizeof *parts };

static cad_status put_parts(view *v, const char *dir, char *const path[PARTS])
{
    bool weights = false, named = false;

    for (int i = 0; i < PARTS; i++) {
        if (!cad_is_file(path[i]) || (parts[i].weights && weights)) continue;
        if (!named) CAD_TRY(cad_json_string(&v->j, "kind", parts[i].kind));
        CAD_TRY(parts[i].put(v, dir, path[i]));
        named = true;
        weights |= parts[i].weights;
    }
    if (named) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: expected a model, an adapter, a checkpoint or a tokenizer, found none of config.json, adapter_config.json, manifest.json, tokenizer.json", dir);
}

static cad_status put_directory(view *v, const char *dir)
{
    char *path[PARTS] = {NULL};
    cad_status st = CAD_OK;

    for (int i = 0; i < PARTS && !st; i++) st = cad_path_join(&path[i], dir, parts[i].file);
    if (!st) st = put_parts(v, dir, path);
    for (int i = 0; i < PARTS; i++) cad_free(&path[i]);
    return st;
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

static cad_status put_tokenizer_file(view *v, const char *path)
{
    char *dir = NULL;
    const char *slash = strrchr(path, '/');
    cad_status st;

    CAD_TRY(cad_strdup(&dir, slash ? path : "."));
    if (slash) dir[slash == path ? 1 : slash - path] = 0;
    st = put_tokenizer(v, dir);
    cad_free(&dir);
    return st;
}

static cad_status put_file_of_kind(view *v, const char *kind, const char *path, cad_status (*put)(view *v, const char *path))
{
    CAD_TRY(cad_json_string(&v->j, "kind", kind));
    return put(v, path);
}

static cad_status put_path(view *v, const char *path)
{
    const char *name = strrchr(path, '/');

    name = name ? name + 1 : path;
    if (cad_is_dir(path)) {
        char *gguf;
        CAD_TRY(cad_gguf_find(&gguf, path));
        cad_status st = gguf ? put_file_of_kind(v, "model", gguf, put_gguf) : put_directory(v, path);
        cad_free(&gguf);
        return st;
    }
    if (!cad_is_file(path)) return cad_fail(CAD_EMODEL, "%s: expected a file or a directory, found none", path);
    if (ends_in(name, ".safetensors")) return put_file_of_kind(v, "weights", path, put_safetensors);
    if (ends_in(name, ".h5") || ends_in(name, ".hdf5")) return put_file_of_kind(v, "state", path, put_hdf5);
    if (ends_in(name, ".gguf")) return put_file_of_kind(v, "model", path, put_gguf);
    if (!strcmp(name, "tokenizer.json")) return put_file_of_kind(v, "tokenizer", path, put_tokenizer_file);
    return cad_fail(CAD_EMODEL, "%s: expected a directory, .safetensors, .gguf, .h5 or tokenizer.json", path);
}

static cad_status describe(view *v, const char *path)
{
    CAD_TRY(cad_json_begin(&v->j, NULL, '{'));
    CAD_TRY(cad_json_string(&v->j, "path", path));
    CAD_TRY(put_path(v, path));
    if (v->elems) {
        CAD_TRY(cad_json_int(&v->j, "elements", v->elems));
        CAD_TRY(cad_json_int(&v->j, "bytes", v->bytes));
    }
    return cad_json_end(&v->j);
}

/* ---- lines ---- */

static void print_value(const cad_node *n, int width)
{
    int used = 0;

    switch (n->kind) {
    case CAD_NULL: used = printf("none"); break;
    case CAD_BOOL: used = printf("%s", n->boolean ? "true" : "false"); break;
    case CAD_INT: used = printf("%lld", (long long)n->integer); break;
    case CAD_REAL: used = printf("%.17g", n->real); break;
    case CAD_STRING: used = printf("%s", n->text); break;
    case CAD_LIST: case CAD_TABLE:
        used = printf("[");
        for (const cad_node *e = n->child; e; e = e->next) {
            print_value(e, 0);
            if (e->next) printf(", ");
        }
        printf("]");
    }
    if (used < width) printf("%*s", width - used, "");
}

static int widest_name(const cad_node *list)
{
    size_t most = 0;

    for (const cad_node *row = list->child; row; row = row->next) {
        size_t n = row->child && row->child->kind == CAD_STRING ? row->child->size : 0;
        if (n > most) most = n;
    }
    return (int)cad_min((int64_t)most, 80);
}

static void print_rows(const cad_node *list)
{
    int width = widest_name(list);

    printf("%s\n", list->key);
    for (const cad_node *row = list->child; row; row = row->next) {
        printf(" ");
        for (const cad_node *cell = row->child; cell; cell = cell->next) {
            printf(" ");
            print_value(cell, cell == row->child ? width : 0);
        }
        printf("\n");
    }
}

static void print_lines(const cad_node *root)
{
    for (const cad_node *n = root->child; n; n = n->next) {
        if (n->kind == CAD_LIST) print_rows(n);
        else if (n->kind == CAD_TABLE) {
            printf("%s\n", n->key);
            for (const cad_node *e = n->child; e; e = e->next) {
                printf("  %-24s ", e->key);
                print_value(e, 0);
                printf("\n");
            }
        } else {
            printf("%-10s ", n->key);
            print_value(n, 0);
            printf("\n");
        }
    }
}

static cad_status print(const view *v, bool json)
{
    cad_tree *tree = NULL;

    if (json) {
        puts(v->j.text.data);
        return CAD_OK;
    }
    CAD_TRY(cad_json_parse(&tree, v->j.text.data, v->j.text.size, "inspect", CAD_EINTERNAL));
    print_lines(tree->root);
    cad_tree_close(&tree);
    return CAD_OK;
}

cad_status cadp_cmd_inspect(cadp_call *c)
{
    const char *path = cadp_call_value(c, "");
    view v = {0};
    cad_status st = describe(&v, path);

    if (!st) st = print(&v, c->json);
    cad_json_close(&v.j);
    if (st || !v.damaged) return st;
    return cad_fail(CAD_ECHECKPOINT, "%s: expected every file as manifest.json lists it, found some missing or damaged", path);
}
