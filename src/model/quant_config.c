/* quantization_config of config.json: what Transformers writes beside weights that bitsandbytes holds as codes. */
#include "model_priv.h"

static cad_status refuse(const char *path, const cad_node *n, const char *expected)
{
    return cad_fail(CAD_EMODEL, "%s:%d:%d: quantization_config: expected %s, found something else", path, n->line, n->column, expected);
}

cad_status cadp_read_quantization(cad_arch *out, const cad_node *n, const char *path)
{
    const char *method, *type;
    bool four, eight;

    if (!n || n->kind == CAD_NULL) return CAD_OK;
    if (n->kind != CAD_TABLE || !cad_get_string(n, "quant_method", &method, "") || strcmp(method, "bitsandbytes"))
        return refuse(path, n, "an unquantised model or quant_method bitsandbytes");
    if (!cad_get_bool(n, "load_in_4bit", &four, false) || !cad_get_bool(n, "load_in_8bit", &eight, false) || four == eight) return refuse(path, n, "load_in_4bit or load_in_8bit");
    out->code = CAD_INT8;
    if (eight) return CAD_OK;
    if (!cad_get_string(n, "bnb_4bit_quant_type", &type, "fp4") || (strcmp(type, "nf4") && strcmp(type, "fp4"))) return refuse(path, n, "bnb_4bit_quant_type nf4 or fp4");
    if (!cad_get_bool(n, "bnb_4bit_use_double_quant", &out->code_nested, false)) return refuse(path, n, "bnb_4bit_use_double_quant true or false");
    out->code = strcmp(type, "nf4") ? CAD_FP4 : CAD_NF4;
    return CAD_OK;
}
