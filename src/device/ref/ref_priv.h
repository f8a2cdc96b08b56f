/* ref: every operation as its formula says, one element at a time, in double, rounded once where it is stored. */
#ifndef CADP_REF_PRIV_H
#define CADP_REF_PRIV_H
#include "../device_priv.h"

static inline double cadp_load(cad_tensor t, int64_t i, int64_t j)
{
    int64_t at = i * t.ld + j;

    switch (t.dtype) {
    case CAD_F64: return ((const double *)t.data)[at];
    case CAD_F32: return (double)((const float *)t.data)[at];
    case CAD_BF16: return (double)cad_bf16_to_f32(((const uint16_t *)t.data)[at]);
    default: CAD_ASSERT(!"a real dtype"); return 0;
    }
}
void cadp_store(cad_tensor t, int64_t i, int64_t j, double value);
float cadp_coded_value(const cad_coded *q, int64_t i, int64_t j);

#define CADP_REF(op, args)                                                                    \
    CAD_CHECKED cad_status cadp_ref_##op(cad_device *d, const args *x, void *work);
CADP_OPS(CADP_REF)
#undef CADP_REF
int64_t cadp_ref_attention_fwd_work(const cad_device *d, const cad_attention_args *x);
int64_t cadp_ref_attention_bwd_work(const cad_device *d, const cad_attention_bwd_args *x);
#endif
