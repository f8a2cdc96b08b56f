/* Through the units of a model and back, as ZeRO brings them. */
#include "train_priv.h"

cad_status cad_walk_forward(cad_zero *z, cad_model *m, int units, const cad_model_batch *b, bool training)
{
    if (b) CAD_TRY(cad_model_start(m, b, training));
    CAD_TRY(cad_zero_fetch(z, 0));
    for (int i = 0; i < units; i++) {
        cad_unit_view w;
        if (i + 1 < units) CAD_TRY(cad_zero_fetch(z, i + 1));
        CAD_TRY(cad_zero_use(z, i, &w));
        if (b) CAD_TRY(cad_model_forward(m, i, w));
        CAD_TRY(cad_zero_release(z, i));
    }
    return CAD_OK;
}

cad_status cad_walk_backward(cad_zero *z, cad_model *m, int units, bool empty)
{
    CAD_TRY(cad_zero_fetch(z, units - 1));
    for (int i = units - 1; i >= 0; i--) {
        cad_unit_view w;
        void *grads;
        bool add;
        if (i) CAD_TRY(cad_zero_fetch(z, i - 1));
        CAD_TRY(cad_zero_use(z, i, &w));
        CAD_TRY(cad_zero_grads(z, i, &grads, &add));
        if (!empty) CAD_TRY(cad_model_backward(m, i, w, grads, add));
        CAD_TRY(cad_zero_release(z, i));
        CAD_TRY(cad_zero_grads_done(z, i, empty));
    }
    return CAD_OK;
}
