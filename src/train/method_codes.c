/* How the frozen weights are held: what load_in_4bit, load_in_8bit and bnb_4bit_* say, and what the model directory holds already. */
#include "train_priv.h"

bool cadp_codes_compute_in_bf16(const cad_options *o)
{
    const char *dtype = o->model.bnb_4bit_compute_dtype;

    return o->model.load_in_4bit && dtype && (!strcmp(dtype, "bfloat16") || !strcmp(dtype, "bf16"));
}

void cadp_codes_of(const cad_options *o, const cad_arch *a, cad_method *m)
{
    m->code = o->model.load_in_8bit ? CAD_INT8 : !o->model.load_in_4bit ? CAD_PLAIN : o->model.bnb_4bit_quant_type == CAD_BNB_FP4 ? CAD_FP4 : CAD_NF4;
    m->nested = o->model.load_in_4bit && o->model.bnb_4bit_use_double_quant;
    m->plain_experts = !o->model.quantize_experts;
    m->outliers = m->code == CAD_INT8 ? o->model.llm_int8_threshold : 0;
    if (!a->code) return;
    m->code = a->code;
    m->nested = a->code_nested;
    m->outliers = m->code == CAD_INT8 ? o->model.llm_int8_threshold : 0;
}

/* Codes stand still: something beside them must train. */
static cad_status check_training(const cad_run *r)
{
    const cad_method *m = &r->method;

    if (m->code == CAD_PLAIN || r->what.purpose != CAD_RUN_TRAIN || r->o->model.lora.enabled || r->adapter.r) return CAD_OK;
    return cad_fail(CAD_EUSAGE, "%s: expected lora.enabled beside it, because weights held as codes do not train; found false",
                    r->arch.code ? "a quantised model" : m->code == CAD_INT8 ? "load_in_8bit" : "load_in_4bit");
}

cad_status cadp_choose_codes(cad_run *r)
{
    cad_method *m = &r->method;
    const cad_options *o = r->o;
    cad_code asked;

    cadp_codes_of(o, &(cad_arch){0}, m);
    asked = m->code;
    cadp_codes_of(o, &r->arch, m);
    if (!r->rank && asked && asked != m->code) cad_warn("codes", "%s holds its weights as %s, which they stay; %s was asked for", r->model_dir, cad_code_name(m->code), cad_code_name(asked));
    if (cadp_codes_compute_in_bf16(o)) m->compute = CAD_BF16;
    return check_training(r);
}
