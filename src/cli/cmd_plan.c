/* plan and export: from files alone, on one process. */
#include "cli_priv.h"

#include <stdlib.h>
#include <strings.h>

/* Bytes, or a number with a unit: 80GB is 80e9, 141GiB is 141 * 2^30. */
static cad_status read_bytes(const char *flag, const char *text, int64_t *out)
{
    static const struct { const char *name; double bytes; } units[] = {
        {"", 1}, {"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0}};
    char *end;
    double n;

    if (!text) return CAD_OK;
    n = strtod(text, &end);
    while (*end == ' ') end++;
    for (size_t i = 0; end != text && i < sizeof units / sizeof *units; i++) {
        if (strcasecmp(end, units[i].name) || !(n > 0) || n * units[i].bytes > 9e18) continue;
        *out = (int64_t)(n * units[i].bytes);
        return CAD_OK;
    }
    return cad_fail(CAD_EUSAGE, "%s: expected bytes such as 80000000000, 80GB or 141GiB, found \"%.60s\"", flag, text);
}

cad_status cadp_cmd_plan(cadp_call *c)
{
    cad_plan_options plan = {0};
    int64_t world = 1;

    CAD_TRY(cadp_call_whole(c, "world-size", 1, 1 << 20, &world));
    CAD_TRY(read_bytes("--device-memory", cadp_call_value(c, "device-memory"), &plan.device_memory));
    plan.world = (int)world;
    return cad_plan_print(c->o, &plan, c->json);
}

cad_status cadp_cmd_export(cadp_call *c)
{
    const char *format = cadp_call_value(c, "format"), *kind = cadp_call_value(c, "gguf-type");
    bool merge = cadp_call_given(c, "merge");
    const char *base = cadp_call_value(c, "merge-base");

    if (format && strcmp(format, "hf") && strcmp(format, "peft") && strcmp(format, "gguf")) return cad_fail(CAD_EUSAGE, "--format: expected hf, peft or gguf, found \"%.60s\"", format);
    if (kind && (!format || strcmp(format, "gguf"))) return cad_fail(CAD_EUSAGE, "--gguf-type: expected --format gguf with it, found %s", format ? format : "none");
    if (kind && strcmp(kind, "f16") && strcmp(kind, "q8_0")) return cad_fail(CAD_EUSAGE, "--gguf-type: expected f16 or q8_0, found \"%.60s\"", kind);
    if (format && !strcmp(format, "gguf")) format = kind && !strcmp(kind, "q8_0") ? "gguf-q8_0" : "gguf-f16";
    if (format && !strcmp(format, "peft") && merge) return cad_fail(CAD_EUSAGE, "--merge: expected --format hf with it, found peft: a merged model has no adapter");
    if (base && (!merge || (strcmp(base, "dequantised") && strcmp(base, "original")))) return cad_fail(CAD_EUSAGE, "--merge-base: expected dequantised or original beside --merge, found \"%.60s\"", base);
    return cad_export(c->o, cadp_call_value(c, "checkpoint"), cadp_call_value(c, "output"), format, !merge ? CAD_MERGE_NONE : base && !strcmp(base, "original") ? CAD_MERGE_ORIGINAL : CAD_MERGE_AS_TRAINED);
}
