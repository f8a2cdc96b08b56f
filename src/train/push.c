/* `push`: what an upload needs, in one folder. */
#include "keep_priv.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static const char base_key[] = "base_model_name_or_path";

/* ---- checksums ---- */

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

typedef struct names { char **name; int64_t count, room; } names;

static cad_status list(const char *dir, names *n)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    cad_status status = CAD_OK;

    if (!d) return cad_fail(CAD_ERESOURCE, "%s: cannot be read", dir);
    while (!status && (e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        if (n->count == n->room) {
            n->room = 2 * n->room + 16;
            if ((status = cad_grow(&n->name, (size_t)n->room, sizeof *n->name, "names of files"))) break;
        }
        if (!(status = cad_strdup(&n->name[n->count], e->d_name))) n->count++;
    }
    closedir(d);
    qsort(n->name, (size_t)n->count, sizeof *n->name, by_name);
    return status;
}

/* SHA256SUMS, as sha256sum -c reads it. */
static cad_status write_sums(const char *dir)
{
    names n = {0};
    cad_str text = {0}, path = {0};
    char hex[65];
    cad_status status = list(dir, &n);

    for (int64_t i = 0; i < n.count && !status; i++) {
        if (!(status = cadp_join(&path, dir, n.name[i])) && !(status = cad_sha256_file(path.data, hex, CAD_ERESOURCE))) status = cad_str_addf(&text, "%s  %s\n", hex, n.name[i]);
    }
    if (!status) status = cadp_join(&path, dir, "SHA256SUMS");
    if (!status) status = cad_write_file(path.data, text.data, text.size);
    for (int64_t i = 0; i < n.count; i++) cad_free(&n.name[i]);
    cad_free(&n.name);
    cad_str_close(&text);
    cad_str_close(&path);
    return status;
}

/* ---- a card for what brings none ---- */

static cad_status write_plain_card(const char *dir)
{
    static const char text[] = "---\nlibrary_name: transformers\ntags:\n- cadtrain\n---\n\n# A model trained with cadtrain\n\n## Use and limits\n\nFor research. It is no medical device. Trained weights can hold text of the\n"
                               "records they were trained on: treat these files as the data they came from until that has been assessed.\n";
    cad_str path = {0};
    cad_status status = cadp_join(&path, dir, "README.md");

    if (!status && !cad_is_file(path.data)) status = cad_write_file(path.data, text, sizeof text - 1);
    cad_str_close(&path);
    return status;
}

/* ---- the base: by the name that others find it by, never by a folder of this machine ---- */

static cad_status put_config(cad_json *j, const cad_node *root, const char *base)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    for (const cad_node *n = root->child; n; n = n->next) CAD_TRY(strcmp(n->key, base_key) ? cad_json_node(j, n->key, n) : cad_json_string(j, base_key, base));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

static cad_status name_in_config(const char *path, const cad_tree *config, const char *base)
{
    cad_json j = {.pretty = true};
    cad_status status = put_config(&j, config->root, base);

    if (!status) status = cad_write_file(path, j.text.data, j.text.size);
    cad_json_close(&j);
    return status;
}

static bool begins(const char *line, const char *with) { return !strncmp(line, with, strlen(with)); }

/* The card with another base: its line in the front matter, which may be missing, and in the table. */
static cad_status rename_base(const char *card, const char *base, cad_str *out)
{
    static const char key[] = "base_model: ", cell[] = "| base model | ";
    bool head = true;

    for (const char *line = card, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        end += *end == '\n';
        if (head && begins(line, key)) continue;
        CAD_TRY(begins(line, cell) ? cad_str_addf(out, "%s%s |\n", cell, base) : cad_str_add(out, line, (size_t)(end - line)));
        if (line == card) CAD_TRY(begins(line, "---\n") ? cad_str_addf(out, "%s\"%s\"\n", key, base) : CAD_OK);
        else if (begins(line, "---")) head = false;
    }
    return CAD_OK;
}

static cad_status name_in_card(const char *dir, const char *base)
{
    cad_str path = {0}, out = {0};
    char *text = NULL;
    size_t n;
    cad_status status = cadp_join(&path, dir, "README.md");

    if (!status) status = cad_read_file(&text, &n, path.data, 1 << 24, CAD_ECHECKPOINT);
    if (!status) status = rename_base(text, base, &out);
    if (!status) status = cad_write_file(path.data, out.data, out.size);
    cad_free(&text);
    cad_str_close(&path);
    cad_str_close(&out);
    return status;
}

/* --model-name-or-path, else what the adapter names. */
static cad_status choose_base(const cad_options *o, const cad_tree *config, cad_str *base, bool *known)
{
    const char *name = o->demo ? NULL : o->model.model_name_or_path;

    if ((!name || !*name) && (!config || !cad_get_string(config->root, base_key, &name, NULL))) name = NULL;
    *known = false;
    return name ? cadp_public_name(name, base, known) : CAD_OK;
}

static cad_status name_base_as(const cad_options *o, const char *dir, const char *path, const cad_tree *config)
{
    cad_str base = {0};
    bool known;
    cad_status status = choose_base(o, config, &base, &known);

    if (!status && known) status = name_in_card(dir, base.data);
    if (!status && config && base.size) status = name_in_config(path, config, base.data);
    if (!status && config && !known) cad_warn("base", "adapter_config.json: the base is known by its folder here alone, \"%s\"; --model-name-or-path ORG/NAME says where others find it", base.size ? base.data : "");
    cad_str_close(&base);
    return status;
}

static cad_status name_base(const cad_options *o, const char *dir)
{
    cad_str path = {0};
    cad_tree *config = NULL;
    cad_status status = cadp_join(&path, dir, "adapter_config.json");

    if (!status && cad_is_file(path.data)) status = cad_json_read(&config, path.data, 1 << 24, CAD_EMODEL);
    if (!status) status = name_base_as(o, dir, path.data, config);
    cad_tree_close(&config);
    cad_str_close(&path);
    return status;
}

static cad_status expect_tokenizer(const char *dir)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model"};
    cad_str path = {0};
    cad_status status = CAD_OK;
    bool there = false;

    for (size_t i = 0; i < sizeof files / sizeof *files && !status && !there; i++)
        if (!(status = cadp_join(&path, dir, files[i]))) there = cad_is_file(path.data);
    cad_str_close(&path);
    return status || there ? status : cad_fail(CAD_EMODEL, "--checkpoint: expected a tokenizer beside the model, found none");
}

static cad_status complete(const cad_options *o, const char *dir)
{
    CAD_TRY(expect_tokenizer(dir));
    CAD_TRY(write_plain_card(dir));
    CAD_TRY(name_base(o, dir));
    return write_sums(dir);
}

cad_status cad_push(const cad_options *o, const char *checkpoint, const char *to) { return cadp_export(o, checkpoint, to, NULL, CAD_MERGE_NONE, complete); }
