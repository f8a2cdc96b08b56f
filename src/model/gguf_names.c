#include "foreign.h"

#include <cadtrain/embedded.h>
#include <stdio.h>
#include <stdlib.h>

cad_status cadp_foreign_table(cad_tree **out)
{
    static const char path[] = "configs/gguf/architectures.yaml";

    for (const cad_embedded *f = cad_embedded_files; f->path; f++)
        if (!strcmp(f->path, path)) return cad_yaml_parse(out, f->text, strlen(f->text), path);
    return cad_fail(CAD_EINTERNAL, "%s is not in this program", path);
}

static bool text_is(const cad_gguf_value *v, const char *text) { return v->kind == CAD_STRING && v->size == strlen(text) && !memcmp(v->text, text, v->size); }

static cad_status find_arch(cadp_foreign *f)
{
    const cad_node *list = cad_get(f->table->root, "architectures");
    cad_gguf_value v;
    cad_str known = {0};
    cad_status status = CAD_OK;
    const char *name;

    if (!cad_gguf_get(f->file, "general.architecture", &v) || v.kind != CAD_STRING) return cad_fail(CAD_EMODEL, "%s: expected \"general.architecture\", found no such text", f->path);
    for (const cad_node *n = list ? list->child : NULL; n && !status; n = n->next) {
        if (!cad_get_string(n, "name", &name, "") || !name) continue;
        if (text_is(&v, name)) {
            f->arch = n;
            break;
        }
        status = cad_str_addf(&known, "%s%s", known.size ? ", " : "", name);
    }
    if (!status && !f->arch)
        status = cad_fail(CAD_EMODEL, "%s: \"general.architecture\": expected one of %s, found \"%.*s\"", f->path, known.data ? known.data : "none", (int)cad_min((int64_t)v.size, 40), v.text);
    cad_str_close(&known);
    return status;
}

bool cadp_foreign_get(const cadp_foreign *f, const char *key, cad_gguf_value *out)
{
    char whole[128];
    const char *name = "";

    (void)cad_get_string(f->arch, "name", &name, "");
    snprintf(whole, sizeof whole, "%s.%s", name, key);
    return cad_gguf_get(f->file, whole, out);
}

static cad_status heads(const cadp_foreign *f, const char *key, int64_t otherwise, int64_t *out)
{
    cad_gguf_value v;

    *out = otherwise;
    if (cadp_foreign_get(f, key, &v)) *out = v.kind == CAD_INT ? v.integer : 0;
    if (*out >= 1 && *out <= 1 << 16) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: \"%s\": expected one whole number from 1 to 65536, found another value", f->path, key);
}

cad_status cadp_foreign_open(cadp_foreign *f, const char *path)
{
    cad_status status;

    *f = (cadp_foreign){.path = path};
    if (!(status = cadp_foreign_table(&f->table)) && !(status = cad_gguf_open(&f->file, path)) && !(status = find_arch(f)) &&
        !(status = heads(f, "attention.head_count", 0, &f->q_heads)))
        status = heads(f, "attention.head_count_kv", f->q_heads, &f->kv_heads);
    if (status) cadp_foreign_close(f);
    return status;
}

void cadp_foreign_close(cadp_foreign *f)
{
    cad_gguf_close(&f->file);
    cad_tree_close(&f->table);
}

/* ---- tensors ---- */

static bool lists(const cad_node *list, const char *name)
{
    for (const cad_node *n = list && list->kind == CAD_LIST ? list->child : NULL; n; n = n->next)
        if (n->kind == CAD_STRING && !strcmp(n->text, name)) return true;
    return false;
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* What llama.cpp's converter did to this tensor of a block. */
static cad_status undo(const cadp_foreign *f, cad_st_tensor *t, const char *stem)
{
    bool plus_one;

    (void)cad_get_bool(f->arch, "gain_plus_one", &plus_one, false);
    if (plus_one && ends_in(stem, "norm")) t->minus = 1;
    if (!lists(cad_get(f->arch, "in_pairs"), stem)) return CAD_OK;
    t->heads = strstr(stem, "_k") ? f->kv_heads : f->q_heads;
    if (t->shape[0] % (2 * t->heads) == 0) return CAD_OK;
    return cad_fail(CAD_EMODEL, "tensor %s in %s: expected rows for %lld heads of even size, found %lld rows", t->name, f->path, (long long)t->heads, (long long)t->shape[0]);
}

static cad_status no_place(const cadp_foreign *f, const cad_st_tensor *t)
{
    const char *name = "";

    (void)cad_get_string(f->arch, "name", &name, "");
    return cad_fail(CAD_EMODEL, "tensor %s in %s: expected a tensor of the architecture %s, found one that it has no place for", t->name, cad_gguf_file(f->file, t->file), name);
}

/* blk.N.STEM.END with END weight or bias. */
static cad_status rename_block(const cadp_foreign *f, cad_st_tensor *t, char *out, size_t room)
{
    char *rest, *dot, stem[64];
    const char *to;
    long layer = strtol(t->name + 4, &rest, 10);

    dot = strrchr(t->name, '.');
    if (rest == t->name + 4 || *rest != '.' || dot <= rest || (size_t)(dot - rest) > sizeof stem || layer < 0 || (strcmp(dot, ".weight") && strcmp(dot, ".bias"))) return no_place(f, t);
    snprintf(stem, sizeof stem, "%.*s", (int)(dot - rest - 1), rest + 1);
    if (!cad_get_string(cad_get(f->arch, "blocks"), stem, &to, NULL) || !to) (void)cad_get_string(cad_get(f->table->root, "blocks"), stem, &to, NULL);
    if (!to) return no_place(f, t);
    snprintf(out, room, "model.layers.%ld.%s%s", layer, to, dot);
    return undo(f, t, stem);
}

cad_status cadp_foreign_rename(void *with, cad_st_tensor *t, char *name, size_t room)
{
    const cadp_foreign *f = with;
    const char *to = NULL;
    bool plus_one;

    if (lists(cad_get(f->table->root, "left_out"), t->name)) return CAD_OK;
    if (!strncmp(t->name, "blk.", 4)) return rename_block(f, t, name, room);
    if (!cad_get_string(cad_get(f->table->root, "tensors"), t->name, &to, NULL) || !to) return no_place(f, t);
    (void)cad_get_bool(f->arch, "gain_plus_one", &plus_one, false);
    if (plus_one && ends_in(t->name, "norm.weight")) t->minus = 1;
    snprintf(name, room, "%s", to);
    return CAD_OK;
}

cad_status cad_weights_open(cad_st **out, const char *dir)
{
    cadp_foreign f;
    char *path;
    cad_status status;

    CAD_TRY(cad_gguf_find(&path, dir));
    if (!path) return cad_st_open(out, dir);
    if (!(status = cadp_foreign_open(&f, path))) {
        status = cad_st_adopt(out, &f.file, cadp_foreign_rename, &f);
        cadp_foreign_close(&f);
    }
    cad_free(&path);
    return status;
}
