/* Where a run writes when it is not told. */
#include <cadtrain/options.h>

const char *cad_mode_name(const cad_options *o)
{
    if (o->model.load_in_4bit) return "qlora";
    if (o->model.load_in_8bit) return "lora8bit";
    return o->model.lora.enabled ? "lora" : "full";
}

static cad_status derive(char **field, const char *folder, const char *slug, const char *mode)
{
    cad_str path = {0};
    cad_status st;

    if (*field) return CAD_OK;
    st = cad_str_addf(&path, "outputs/%s/%s_%s", folder, slug, mode);
    for (char *c = path.data ? path.data + strlen("outputs/") + strlen(folder) + 1 : NULL; !st && *c; c++)
        if (*c == '/' || *c == '\\' || *c == ' ') *c = '_';
    if (!st) st = cad_strdup(field, path.data);
    cad_str_close(&path);
    return st;
}

static cad_status below(char **field, const char *dir, const char *name) { return *field ? CAD_OK : cad_path_join(field, dir, name); }

cad_status cad_derive_dirs(cad_options *o)
{
    const char *model = o->model.model_name_or_path, *slug = model ? model : o->demo ? "demo" : "model", *mode = cad_mode_name(o);

    if (o->output_dir) CAD_TRY(below(&o->prediction_output_dir, o->output_dir, "predictions"));
    CAD_TRY(derive(&o->output_dir, "checkpoints", slug, mode));
    return derive(&o->prediction_output_dir, "predictions", slug, mode);
}
