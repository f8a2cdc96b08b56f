/* How the frozen weights are held: what load_in_4bit, load_in_8bit and bnb_4bit_* say. */
#include "train_priv.h"

static bool computes_in_bf16(const cad_options *o)
{
    const char *dtype = o->model.bnb_4bit_compute_dtype;

    return o->model.load_in_4bit && dtype && (!strcmp(dtype, "bfloat16") || !strcmp(dtype, "bf16"));
}

void cadp_codes_from_options(const cad_options *o, cad_method *m)
{
    if (o->model.load_in_8bit) m->code = CAD_INT8;
    if (!o->model.load_in_4bit) return;
    m->code = o->model.bnb_4bit_quant_type == CAD_BNB_FP4 ? CAD_FP4 : CAD_NF4;
    m->nested = o->model.bnb_4bit_use_double_quant;
    if (computes_in_bf16(o)) m->compute = CAD_BF16;
}
