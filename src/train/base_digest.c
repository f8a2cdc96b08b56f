/* Which base an adapter was trained on: shapes may agree where weights do not. Numbers rounded once differ from numbers rounded twice (a base kept in fp16),
 * and names and norms of other kinds of files differ (GGUF): the digest of such a base is another though the base is the same, so this warns and never refuses. */
#include "keep_priv.h"

enum { FIRST = 256 };

/* The first values of a tensor, rounded to bf16: the same whether a base is kept in fp32 or in bf16. */
static cad_status tensor_digest(const cad_st_tensor *t, char hex[65])
{
    float v[FIRST];
    uint16_t rounded[FIRST];
    int64_t n = cad_min(t->elems, FIRST);
    cad_sha256 s;

    CAD_TRY(cad_st_read_f32(t, 0, n, v));
    for (int64_t i = 0; i < n; i++) rounded[i] = cad_f32_to_bf16(v[i]);
    cad_sha256_begin(&s);
    cad_sha256_add(&s, t->name, strlen(t->name));
    cad_sha256_add(&s, rounded, (size_t)n * sizeof *rounded);
    cad_sha256_end(&s, hex);
    return CAD_OK;
}

/* Of norms and embeddings, which stay numbers where a base is kept as codes. Tensors may lie in any order and in any number of files. */
static cad_status all_digests(const cad_st *st, uint8_t both[64])
{
    char hex[65];

    for (int i = 0; i < cad_st_count(st); i++) {
        const cad_st_tensor *t = cad_st_at(st, i);
        if ((t->dtype != CAD_F32 && t->dtype != CAD_BF16 && t->dtype != CAD_F16) || (!strstr(t->name, "norm") && !strstr(t->name, "embed"))) continue;
        CAD_TRY(tensor_digest(t, hex));
        for (int k = 0; k < 64; k++) both[k] ^= (uint8_t)hex[k];
    }
    return CAD_OK;
}

cad_status cadp_base_digest(const char *dir, char hex[65])
{
    uint8_t both[64] = {0};
    cad_sha256 s;
    cad_st *st;
    cad_status status;

    CAD_TRY(cad_weights_open(&st, dir));
    status = all_digests(st, both);
    cad_st_close(&st);
    cad_sha256_begin(&s);
    cad_sha256_add(&s, both, sizeof both);
    cad_sha256_end(&s, hex);
    return status;
}

static cad_status compare(const char *adapter_dir, const char *model_dir, const char *path)
{
    char hex[65];
    const char *then;
    cad_tree *run;
    cad_status status;

    CAD_TRY(cad_json_read(&run, path, 16 << 20, CAD_ECHECKPOINT));
    if (cad_get_string(run->root, "base_sha256", &then, NULL) && then && !(status = cadp_base_digest(model_dir, hex)) && strcmp(then, hex))
        cad_warn("the base", "%s was trained on other weights than those of %s (base_sha256 of its run.json)", adapter_dir, model_dir);
    cad_clear(); /* a record that cannot be read says nothing */
    cad_tree_close(&run);
    return CAD_OK;
}

cad_status cadp_tell_base_of(const char *adapter_dir, const char *model_dir)
{
    cad_str path = {0};
    cad_status status;

    status = cadp_join(&path, adapter_dir, "run.json");
    if (!status && cad_is_file(path.data)) status = compare(adapter_dir, model_dir, path.data);
    cad_str_close(&path);
    return status;
}

cad_status cadp_tell_base(const cad_run *r) { return r->rank || !r->adapter_dir ? CAD_OK : cadp_tell_base_of(r->adapter_dir, r->model_dir); }
