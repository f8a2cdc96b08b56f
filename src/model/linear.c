#include "model_priv.h"

cad_tensor cadp_weight(const cad_model *m, cad_unit_view w, int row)
{
    if (row < 0) return (cad_tensor){0};
    const cad_param *p = &m->params->row[row];

    CAD_ASSERT(!p->code);
    return cad_view(p->trains ? (char *)w.train + (size_t)p->at * cad_dtype_bytes(m->act) : (char *)w.frozen + p->at, m->act, p->rows, p->cols);
}

cad_tensor cadp_grad(const cad_model *m, void *grads, int row)
{
    if (row < 0 || !m->params->row[row].trains) return (cad_tensor){0};
    const cad_param *p = &m->params->row[row];

    return cad_view((char *)grads + (size_t)p->at * cad_dtype_bytes(m->real), m->real, p->rows, p->cols);
}

static void add_part(cad_model *m, cadp_linear *l, int unit, cad_role role)
{
    cadp_part *p = &l->part[l->parts++];
    const cad_param *weight;

    p->weight = cadp_find(m, unit, role, CAD_PIECE_WEIGHT);
    p->bias = cadp_find(m, unit, role, CAD_PIECE_BIAS);
    p->a = cadp_find(m, unit, role, CAD_PIECE_A);
    p->b = cadp_find(m, unit, role, CAD_PIECE_B);
    p->magnitude = cadp_find(m, unit, role, CAD_PIECE_MAGNITUDE);
    if (p->a >= 0) {
        p->r = m->params->row[p->a].rows;
        p->scale = m->params->row[p->a].scale;
        p->factors = m->factors;
        p->u_from = l->u;
        l->u += p->r;
    }
    weight = &m->params->row[p->weight];
    p->from = l->out;
    p->out = weight->rows;
    l->in = weight->cols;
    l->out += weight->rows;
    if (p->magnitude >= 0) m->factors += p->out;
}

/* Where the row behind it would begin. */
static int64_t end_of(const cad_param *p) { return p->at + (p->trains ? p->elems : p->bytes); }

static bool lies_together(const cad_model *m, const cadp_linear *l)
{
    const cad_param *row = m->params->row;

    for (int i = 0; i < l->parts; i++) {
        const cadp_part *p = &l->part[i], *q = &l->part[i ? i - 1 : 0];
        if (row[p->weight].code || row[p->weight].trains != row[q->weight].trains) return false;
        if (i && (row[p->weight].at != end_of(&row[q->weight]) || (p->bias >= 0) != (q->bias >= 0))) return false;
        if (i && p->bias >= 0 && row[p->bias].trains != row[q->bias].trains) return false;
        if (i && p->bias >= 0 && row[p->bias].at != end_of(&row[q->bias])) return false;
    }
    return true;
}

static void choose_products(const cad_model *m, cadp_linear *l)
{
    bool together = lies_together(m, l), stretched = false;

    for (int i = 0; i < l->parts; i++) stretched |= l->part[i].magnitude >= 0;
    l->fused = together && !l->u;
    l->joined = together && l->u && l->parts > 1 && !stretched && cad_device_adds_apart(m->device);
}

cad_status cadp_linears_build(cad_model *m)
{
    static const cad_role roles[CADP_LINEARS][3] = {
        {CAD_ROLE_Q, CAD_ROLE_K, CAD_ROLE_V}, {CAD_ROLE_O}, {CAD_ROLE_GATE, CAD_ROLE_UP}, {CAD_ROLE_DOWN}};
    static const int members[CADP_LINEARS] = {3, 1, 2, 1};

    int blocks = m->arch->layers * CADP_LINEARS;

    CAD_TRY(cad_alloc(&m->linear, (size_t)blocks + 1, sizeof *m->linear, "the linear layers"));
    for (int i = 0; i < blocks; i++) {
        cadp_linear *l = &m->linear[i];
        for (int j = 0; j < members[i % CADP_LINEARS]; j++)
            if (cadp_find(m, i / CADP_LINEARS + 1, roles[i % CADP_LINEARS][j], CAD_PIECE_WEIGHT) >= 0) add_part(m, l, i / CADP_LINEARS + 1, roles[i % CADP_LINEARS][j]);
        choose_products(m, l);
        l->site = (uint32_t)i * 4;
    }
    if (cadp_find(m, m->arch->layers + 1, CAD_ROLE_POOLER, CAD_PIECE_WEIGHT) < 0 || m->method.custom_head) return CAD_OK;
    add_part(m, cadp_pooler(m), m->arch->layers + 1, CAD_ROLE_POOLER);
    choose_products(m, cadp_pooler(m));
    cadp_pooler(m)->site = (uint32_t)blocks * 4;
    return CAD_OK;
}

cad_coded cadp_codes(const cad_model *m, cad_unit_view w, int row)
{
    const cad_param *p = &m->params->row[row];

    return p->code ? cad_coded_view((char *)w.frozen + p->at, p->code, p->nested, p->rows, p->cols) : (cad_coded){0};
}

void cadp_put_weight(const cad_model *m, cad_unit_view w, int row, cad_matmul_args *x)
{
    x->codes = cadp_codes(m, w, row);
    if (!x->codes.code) x->b = cadp_weight(m, w, row);
}

/* The tensors of a member, or of all members when they are one product. */
static cad_status put_weight(cad_model *m, const cadp_linear *l, cad_unit_view w, int i, bool back, cad_matmul_args *x)
{
    CAD_TRY(cadp_put_part(m, l, w, i, back, x));
    if (l->fused || l->joined) x->b.rows = l->out;
    return CAD_OK;
}

static cad_tensor bias_of(const cad_model *m, const cadp_linear *l, cad_unit_view w, int i)
{
    cad_tensor t = cadp_weight(m, w, l->part[i].bias);

    if ((l->fused || l->joined) && cad_some(t)) t.cols = t.ld = l->out;
    return t;
}

static bool drops(const cad_model *m) { return m->training && m->method.lora && m->method.dropout > 0; }

/* What the adapter of member i sees of x. */
static cad_status adapter_input(cad_model *m, const cadp_linear *l, int i, cad_tensor x, cad_tensor *out)
{
    *out = x;
    if (!drops(m)) return CAD_OK;
    *out = cad_view(m->drop.data, m->act, x.rows, x.cols);
    return cad_dropout(m->device, &(cad_dropout_args){.y = *out, .x = x, .p = m->method.dropout, .seed = m->method.seed, .index = m->seed_index, .site = l->site + (uint32_t)i});
}

static cad_tensor u_of(const cadp_linear *l, cad_tensor u, int i) { return cad_columns(u, l->part[i].u_from, l->part[i].r); }
/* dy B of member i, as many rows as dy. */
static cad_tensor v_of(const cad_model *m, const cadp_linear *l, cad_tensor dy, int i) { return u_of(l, cad_slice(m->v, 0, dy.rows), i); }

static cad_status member_forward(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor x, cad_tensor y, double beta, cad_tensor u, int i)
{
    const cadp_part *p = &l->part[i];
    cad_matmul_args args = {.c = l->fused ? y : cad_columns(y, p->from, p->out), .a = x, .tb = true, .alpha = 1, .beta = beta, .bias = bias_of(m, l, w, i)};

    CAD_TRY(put_weight(m, l, w, i, false, &args));
    args.outliers = cadp_outliers(m, &args);
    if (p->a >= 0) {
        cad_tensor seen, low = u_of(l, u, i);
        CAD_TRY(adapter_input(m, l, i, x, &seen));
        CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = low, .a = seen, .b = cadp_weight(m, w, p->a), .tb = true, .alpha = 1}));
        if (p->magnitude >= 0) return cadp_dora_forward(m, l, p, w, x, seen, low, args.c, beta);
        args.a2 = low;
        args.b2 = cadp_weight(m, w, p->b);
        args.tb2 = true;
        args.alpha2 = p->scale;
    }
    return cad_matmul(m->device, &args);
}

/* One product of all members, then what each adapter adds. */
static cad_status joined_forward(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor x, cad_tensor y, double beta, cad_tensor u)
{
    cad_matmul_args all = {.c = y, .a = x, .tb = true, .alpha = 1, .beta = beta, .bias = bias_of(m, l, w, 0)};

    CAD_TRY(put_weight(m, l, w, 0, false, &all));
    CAD_TRY(cad_matmul(m->device, &all));
    for (int i = 0; i < l->parts; i++) {
        const cadp_part *p = &l->part[i];
        cad_tensor seen, low;
        if (p->a < 0) continue;
        low = u_of(l, u, i);
        CAD_TRY(adapter_input(m, l, i, x, &seen));
        CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = low, .a = seen, .b = cadp_weight(m, w, p->a), .tb = true, .alpha = 1}));
        CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = cad_columns(y, p->from, p->out), .a = low, .b = cadp_weight(m, w, p->b), .tb = true, .alpha = p->scale, .beta = 1}));
    }
    return CAD_OK;
}

cad_status cadp_linear_forward(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor x, cad_tensor y, double beta, cad_tensor u)
{
    if (l->joined) return joined_forward(m, l, w, x, y, beta, u);
    for (int i = 0; i < (l->fused ? 1 : l->parts); i++) CAD_TRY(member_forward(m, l, w, x, y, beta, u, i));
    return CAD_OK;
}

static cad_status base_gradients(cad_model *m, const cadp_linear *l, void *grads, cad_tensor x, cad_tensor dy, int i)
{
    cad_tensor dw = cadp_grad(m, grads, l->part[i].weight), db = cadp_grad(m, grads, l->part[i].bias);

    if (l->fused) {
        dw.rows = l->out;
        db.cols = db.ld = l->out;
    }
    if (cad_some(dw)) CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = dw, .a = dy, .ta = true, .b = x, .alpha = 1, .beta = m->add}));
    if (cad_some(db)) CAD_TRY(cad_sum_rows(m->device, &(cad_sum_rows_args){.y = db, .x = dy, .accumulate = m->add}));
    return CAD_OK;
}

/* dA = s v' x~, dB = s dy' u with v = dy B (families 11.1); with a magnitude dz stands for dy. */
static cad_status adapter_gradients(cad_model *m, const cadp_linear *l, cad_unit_view w, void *grads, cad_tensor x, cad_tensor dy, cad_tensor u, int i)
{
    const cadp_part *p = &l->part[i];
    cad_tensor seen, v = v_of(m, l, dy, i);

    CAD_TRY(adapter_input(m, l, i, x, &seen));
    if (p->magnitude >= 0) {
        CAD_TRY(cadp_dora_magnitude(m, p, w, cadp_grad(m, grads, p->magnitude), seen, u_of(l, u, i), dy));
        CAD_TRY(cadp_dora_gradient(m, p, dy, &dy));
    }
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = cadp_grad(m, grads, p->b), .a = dy, .ta = true, .b = u_of(l, u, i), .alpha = p->scale, .beta = m->add}));
    return cad_matmul(m->device, &(cad_matmul_args){.c = cadp_grad(m, grads, p->a), .a = v, .ta = true, .b = seen, .alpha = p->scale, .beta = m->add});
}

/* dx += the gradient through the adapter when dropout stands before it; with a magnitude (dz) the weight sees the dropped input too. */
static cad_status dropped_input_gradient(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor v, cad_tensor dy, cad_tensor dz, cad_tensor dx, int i)
{
    const cadp_part *p = &l->part[i];
    cad_tensor t = cad_view(m->drop.data, m->act, dx.rows, dx.cols);

    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = t, .a = v, .b = cadp_weight(m, w, p->a), .alpha = p->scale}));
    if (p->magnitude >= 0) {
        cad_matmul_args more = {.c = t, .a = dz, .alpha = 1, .beta = 1};
        cadp_put_weight(m, w, p->weight, &more);
        CAD_TRY(cad_matmul(m->device, &more));
        more.a = dy;
        more.alpha = -1;
        CAD_TRY(cad_matmul(m->device, &more));
    }
    return cad_dropout(m->device, &(cad_dropout_args){.y = dx, .x = t, .p = m->method.dropout, .seed = m->method.seed, .index = m->seed_index, .site = l->site + (uint32_t)i, .accumulate = true});
}

static cad_tensor member_of(const cadp_linear *l, cad_tensor dy, int i) { return l->fused ? dy : cad_columns(dy, l->part[i].from, l->part[i].out); }

static cad_status member_input(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor dy, cad_tensor dx, int i)
{
    const cadp_part *p = &l->part[i];
    cad_tensor v = {0}, dz = dy;
    cad_matmul_args args = {.c = dx, .a = dy, .alpha = 1, .beta = i ? 1 : 0};
    bool direct = p->a >= 0 && !drops(m);

    if (p->magnitude >= 0) CAD_TRY(cadp_dora_gradient(m, p, dy, &dz));
    if (p->a >= 0) {
        v = v_of(m, l, dy, i);
        CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = v, .a = dz, .b = cadp_weight(m, w, p->b), .alpha = 1}));
    }
    if (!cad_some(dx)) return CAD_OK;
    CAD_TRY(put_weight(m, l, w, i, true, &args));
    if (direct) {
        args.a = dz;
        args.a2 = v;
        args.b2 = cadp_weight(m, w, p->a);
        args.alpha2 = p->scale;
    }
    CAD_TRY(cad_matmul(m->device, &args));
    return p->a >= 0 && !direct ? dropped_input_gradient(m, l, w, v, dy, dz, dx, i) : CAD_OK;
}

static cad_status joined_input(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor dy, cad_tensor dx)
{
    cad_matmul_args all = {.c = dx, .a = dy, .alpha = 1};

    CAD_TRY(put_weight(m, l, w, 0, true, &all));
    if (cad_some(dx)) CAD_TRY(cad_matmul(m->device, &all));
    for (int i = 0; i < l->parts; i++) {
        const cadp_part *p = &l->part[i];
        cad_tensor mine = member_of(l, dy, i), v;
        if (p->a < 0) continue;
        v = v_of(m, l, dy, i);
        CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = v, .a = mine, .b = cadp_weight(m, w, p->b), .alpha = 1}));
        if (!cad_some(dx)) continue;
        if (drops(m)) CAD_TRY(dropped_input_gradient(m, l, w, v, mine, mine, dx, i));
        else CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = dx, .a = v, .b = cadp_weight(m, w, p->a), .alpha = p->scale, .beta = 1}));
    }
    return CAD_OK;
}

cad_status cadp_linear_input_gradient(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor dy, cad_tensor dx)
{
    if (l->joined) return joined_input(m, l, w, dy, dx);
    for (int i = 0; i < (l->fused ? 1 : l->parts); i++) CAD_TRY(member_input(m, l, w, member_of(l, dy, i), dx, i));
    return CAD_OK;
}

cad_status cadp_linear_weight_gradient(cad_model *m, const cadp_linear *l, cad_unit_view w, void *grads, cad_tensor x, cad_tensor dy, cad_tensor u)
{
    for (int i = 0; i < (l->fused ? 1 : l->parts); i++) {
        CAD_TRY(base_gradients(m, l, grads, x, member_of(l, dy, i), i));
        if (l->part[i].a >= 0) CAD_TRY(adapter_gradients(m, l, w, grads, x, member_of(l, dy, i), u, i));
    }
    return CAD_OK;
}

cad_status cadp_linear_backward(cad_model *m, const cadp_linear *l, cad_unit_view w, void *grads, cad_tensor x, cad_tensor dy, cad_tensor dx, cad_tensor u)
{
    CAD_TRY(cadp_linear_input_gradient(m, l, w, dy, dx));
    return cadp_linear_weight_gradient(m, l, w, grads, x, dy, u);
}
