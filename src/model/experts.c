/* Routed experts: visits sorted by expert, products of groups. The router's score stands before the experts (families 5.7). */
#include "model_priv.h"

static cad_tensor weight(const cad_model *m, int block, cad_unit_view w, cad_role role) { return cadp_weight(m, w, cadp_find(m, block + 1, role, CAD_PIECE_WEIGHT)); }

/* As many rows as there are visits. */
static cad_tensor visits(const cad_model *m, cad_tensor t) { return cad_slice(t, 0, m->packing.tokens * m->arch->chosen); }

static cad_tensor token_of(const cad_model *m, const cadp_visits *v) { return visits(m, v->token); }

/* What visits see: score x. */
static cad_status seen(cad_model *m, const cadp_visits *v, cad_tensor x)
{
    return cad_gather(m->device, &(cad_gather_args){.y = visits(m, m->visit), .x = x, .index = token_of(m, v), .scale = visits(m, v->score)});
}

/* By the experts' matrices of a role, which may be codes. */
static cad_status multiply(cad_model *m, int block, cad_unit_view w, const cadp_visits *v, cad_tensor c, cad_tensor a, cad_role role, bool tb)
{
    cad_groups_args x = {.c = c, .a = a, .starts = v->starts, .tb = tb, .groups = m->arch->experts, .codes = cadp_codes(m, w, cadp_find(m, block + 1, role, CAD_PIECE_WEIGHT))};

    if (!x.codes.code) x.b = weight(m, block, w, role);
    return cad_matmul_groups(m->device, &x);
}

static cad_status weight_gradient(cad_model *m, const cadp_visits *v, cad_tensor dw, cad_tensor a, cad_tensor b)
{
    return cad_matmul_groups(m->device, &(cad_groups_args){.c = dw, .a = a, .b = b, .starts = v->starts, .ta = true, .groups = m->arch->experts, .accumulate = m->add});
}

/* The adapter beside the experts' matrices of a role; rows of the table, -1: none. */
typedef struct adapter { cad_tensor a, b; int rows[2]; double scale; } adapter;

static adapter adapter_of(const cad_model *m, int block, cad_unit_view w, cad_role role)
{
    adapter x = {.rows = {cadp_find(m, block + 1, role, CAD_PIECE_A), cadp_find(m, block + 1, role, CAD_PIECE_B)}};

    if (x.rows[0] < 0) return x;
    x.a = cadp_weight(m, w, x.rows[0]);
    x.b = cadp_weight(m, w, x.rows[1]);
    x.scale = m->params->row[x.rows[0]].scale;
    return x;
}

static cad_tensor inside(const cad_model *m, const adapter *p, cad_tensor t) { return cad_columns(visits(m, t), 0, p->b.cols); }

/* c = (more: +=) a op(b), group by group. */
static cad_status product(cad_model *m, const cadp_visits *v, cad_tensor c, cad_tensor a, cad_tensor b, bool tb, bool more)
{
    return cad_matmul_groups(m->device, &(cad_groups_args){.c = c, .a = a, .b = b, .starts = v->starts, .tb = tb, .groups = m->arch->experts, .accumulate = more});
}

/* low = s x B */
static cad_status lower(cad_model *m, const cadp_visits *v, const adapter *p, cad_tensor x)
{
    cad_tensor low = inside(m, p, m->low);

    CAD_TRY(product(m, v, low, x, p->b, false, false));
    return cad_axpby(m->device, &(cad_axpby_args){.y = low, .x = low, .alpha = p->scale});
}

/* y += s (x B) A */
static cad_status adapter_forward(cad_model *m, int block, cad_unit_view w, const cadp_visits *v, cad_tensor y, cad_tensor x, cad_role role)
{
    adapter p = adapter_of(m, block, w, role);

    if (p.rows[0] < 0) return CAD_OK;
    CAD_TRY(lower(m, v, &p, x));
    return product(m, v, y, inside(m, &p, m->low), p.a, false, true);
}

/* What both gradients of an adapter are made of: dlow = s dy A'. */
static cad_status adapter_enter_back(cad_model *m, int block, cad_unit_view w, const cadp_visits *v, cad_tensor dy, cad_role role)
{
    adapter p = adapter_of(m, block, w, role);
    cad_tensor dlow;

    if (p.rows[0] < 0) return CAD_OK;
    dlow = inside(m, &p, m->dlow);
    CAD_TRY(product(m, v, dlow, dy, p.a, true, false));
    return cad_axpby(m->device, &(cad_axpby_args){.y = dlow, .x = dlow, .alpha = p.scale});
}

/* dx += dlow B' */
static cad_status adapter_input_gradient(cad_model *m, int block, cad_unit_view w, const cadp_visits *v, cad_tensor dx, cad_role role)
{
    adapter p = adapter_of(m, block, w, role);

    return p.rows[0] < 0 ? CAD_OK : product(m, v, dx, inside(m, &p, m->dlow), p.b, true, true);
}

/* dB = x' dlow, dA = (s x B)' dy */
static cad_status adapter_gradients(cad_model *m, int block, cad_unit_view w, void *grads, const cadp_visits *v, cad_tensor x, cad_tensor dy, cad_role role)
{
    adapter p = adapter_of(m, block, w, role);

    if (p.rows[0] < 0) return CAD_OK;
    CAD_TRY(lower(m, v, &p, x));
    CAD_TRY(weight_gradient(m, v, cadp_grad(m, grads, p.rows[1]), x, inside(m, &p, m->dlow)));
    return weight_gradient(m, v, cadp_grad(m, grads, p.rows[0]), inside(m, &p, m->low), dy);
}

cad_status cadp_experts_visit(cad_model *m, int block, cad_unit_view w, cadp_visits *v, cad_tensor x)
{
    cad_tensor logits = cadp_rows(m, m->scores);

    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = logits, .a = x, .b = weight(m, block, w, CAD_ROLE_ROUTER), .tb = true, .alpha = 1}));
    CAD_TRY(cad_route_fwd(m->device, &(cad_route_args){.logits = logits, .token = token_of(m, v), .slot = cadp_rows(m, v->slot), .starts = v->starts, .score = visits(m, v->score)}));
    CAD_TRY(seen(m, v, x));
    CAD_TRY(multiply(m, block, w, v, visits(m, v->gu), visits(m, m->visit), CAD_ROLE_EXPERT_GATE_UP, false));
    return adapter_forward(m, block, w, v, visits(m, v->gu), visits(m, m->visit), CAD_ROLE_EXPERT_GATE_UP);
}

cad_status cadp_experts_forward(cad_model *m, int block, cad_unit_view w, cadp_visits *v, cad_tensor out)
{
    int64_t n = m->arch->intermediate;
    cad_tensor gu = visits(m, v->gu), hidden = visits(m, m->hidden);

    CAD_TRY(cad_glu_fwd(m->device, &(cad_glu_args){.m = hidden, .gate = cad_columns(gu, 0, n), .up = cad_columns(gu, n, n), .act = m->arch->act}));
    CAD_TRY(multiply(m, block, w, v, visits(m, m->visit), hidden, CAD_ROLE_EXPERT_DOWN, false));
    CAD_TRY(adapter_forward(m, block, w, v, visits(m, m->visit), hidden, CAD_ROLE_EXPERT_DOWN));
    return cad_gather(m->device, &(cad_gather_args){.y = out, .x = visits(m, m->visit), .index = cadp_rows(m, v->slot), .accumulate = true});
}

/* m->visit takes turns: the gradient of what visits give, what they saw, the gradient of that. */
static cad_status inside_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_visits *v, cad_tensor x, cad_tensor dy)
{
    int64_t n = m->arch->intermediate;
    cad_tensor gu = visits(m, v->gu), gate = cad_columns(gu, 0, n), up = cad_columns(gu, n, n), hidden = visits(m, m->hidden), dhidden = cad_columns(visits(m, m->dm), 0, n), visit = visits(m, m->visit);
    cad_tensor d_down = cadp_grad(m, grads, cadp_find(m, block + 1, CAD_ROLE_EXPERT_DOWN, CAD_PIECE_WEIGHT)), d_gu = cadp_grad(m, grads, cadp_find(m, block + 1, CAD_ROLE_EXPERT_GATE_UP, CAD_PIECE_WEIGHT));

    CAD_TRY(cad_gather(m->device, &(cad_gather_args){.y = visit, .x = dy, .index = token_of(m, v)}));
    CAD_TRY(multiply(m, block, w, v, dhidden, visit, CAD_ROLE_EXPERT_DOWN, true));
    CAD_TRY(adapter_enter_back(m, block, w, v, visit, CAD_ROLE_EXPERT_DOWN));
    CAD_TRY(adapter_input_gradient(m, block, w, v, dhidden, CAD_ROLE_EXPERT_DOWN));
    CAD_TRY(cad_glu_bwd(m->device, &(cad_glu_bwd_args){.dgate = gate, .dup = up, .dm = dhidden, .gate = gate, .up = up, .m = hidden, .act = m->arch->act}));
    if (cad_some(d_down)) CAD_TRY(weight_gradient(m, v, d_down, hidden, visit));
    CAD_TRY(adapter_gradients(m, block, w, grads, v, hidden, visit, CAD_ROLE_EXPERT_DOWN));
    CAD_TRY(adapter_enter_back(m, block, w, v, gu, CAD_ROLE_EXPERT_GATE_UP));
    if (cad_some(d_gu) || cadp_find(m, block + 1, CAD_ROLE_EXPERT_GATE_UP, CAD_PIECE_A) >= 0) CAD_TRY(seen(m, v, x));
    if (cad_some(d_gu)) CAD_TRY(weight_gradient(m, v, d_gu, visit, gu));
    CAD_TRY(adapter_gradients(m, block, w, grads, v, visit, gu, CAD_ROLE_EXPERT_GATE_UP));
    CAD_TRY(multiply(m, block, w, v, visit, gu, CAD_ROLE_EXPERT_GATE_UP, true));
    return adapter_input_gradient(m, block, w, v, visit, CAD_ROLE_EXPERT_GATE_UP);
}

cad_status cadp_experts_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_visits *v, cad_tensor x, cad_tensor dy, cad_tensor dx)
{
    cad_tensor dlogits = cadp_rows(m, m->dscores), d_router = cadp_grad(m, grads, cadp_find(m, block + 1, CAD_ROLE_ROUTER, CAD_PIECE_WEIGHT));

    CAD_TRY(inside_backward(m, block, w, grads, v, x, dy));
    CAD_TRY(cad_route_bwd(m->device, &(cad_route_bwd_args){.dx = dx, .dlogits = dlogits, .dv = visits(m, m->visit), .x = x, .slot = cadp_rows(m, v->slot), .starts = v->starts, .score = visits(m, v->score)}));
    if (cad_some(d_router)) CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = d_router, .a = dlogits, .ta = true, .b = x, .alpha = 1, .beta = m->add}));
    return cad_matmul(m->device, &(cad_matmul_args){.c = dx, .a = dlogits, .b = weight(m, block, w, CAD_ROLE_ROUTER), .alpha = 1, .beta = 1});
}
