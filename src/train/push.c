/* `push`: what an upload needs, in one folder. */
#include "keep_priv.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

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

/* A base that is a folder of this machine is no base for others. */
static void tell_base(const char *dir)
{
    cad_adapter_config a = {0};

    if (cad_is_adapter(dir) && !cad_adapter_config_read(&a, dir) && a.base_model && cad_is_dir(a.base_model))
        cad_warn("base", "%s/adapter_config.json names the base by its folder here; others find it only if base_model_name_or_path is ORG/NAME", dir);
    cad_clear();
    cad_adapter_config_close(&a);
}

cad_status cad_push(const cad_options *o, const char *checkpoint, const char *to)
{
    CAD_TRY(cad_export(o, checkpoint, to, NULL, false));
    CAD_TRY(write_plain_card(to));
    tell_base(to);
    return write_sums(to);
}
