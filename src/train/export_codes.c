/* A model directory with its linear weights as codes, as Transformers and bitsandbytes write it; routed experts in one tensor as bitsandbytes'
 * nn.parametrize writes them (of 8 bits it has none: they stay numbers). In memory is a piece of a matrix and its scales. */
#include "merge_priv.h"

enum { PIECE = 1 << 22 };

typedef struct coder {
    const cad_options *o;
    cad_arch arch;
    cad_method method;
    cad_params *params;
    cad_st *from;
    cad_st_writer *writer;
    float *x, *scales;   /* a piece of a matrix; its scales */
    uint8_t *codes;      /* of the piece */
    int64_t piece, blocks;
} coder;

/* What follows "model." in a canonical name; files differ before it only. */
static bool names_same(const char *file, const char *canonical)
{
    const char *tail = strncmp(canonical, "model.", 6) ? canonical : canonical + 6;
    size_t n = strlen(file), t = strlen(tail);

    return n >= t && !strcmp(file + n - t, tail) && (n == t || file[n - t - 1] == '.');
}

static const cad_param *row_of(const coder *c, const cad_st_tensor *t)
{
    for (int i = 0; i < c->params->count; i++)
        if (c->params->row[i].code && names_same(t->name, c->params->row[i].name)) return &c->params->row[i];
    return NULL;
}

static const char *torch_name(cad_dtype d) { return d == CAD_BF16 ? "bfloat16" : d == CAD_F16 ? "float16" : d == CAD_F64 ? "float64" : "float32"; }

static cad_status state_text(cad_str *out, const coder *c, const cad_param *p, cad_dtype dtype, float offset)
{
    char number[32];
    int64_t shape[3];
    int dims = cad_param_shape(p, shape);

    out->size = 0;
    CAD_TRY(cad_str_addf(out, "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"%s\", \"shape\": [", cad_code_name(c->method.code), CAD_QUANT_BLOCK, torch_name(dtype)));
    for (int i = 0; i < dims; i++) CAD_TRY(cad_str_addf(out, "%s%lld", i ? ", " : "", (long long)shape[i]));
    (void)cad_format_real(number, (double)offset);
    CAD_TRY(cad_str_addf(out, "]"));
    if (c->method.nested) CAD_TRY(cad_str_addf(out, ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\", \"nested_offset\": %s", CAD_SCALE_BLOCK, number));
    return cad_str_addf(out, "}");
}

/* ---- a matrix ---- */

static void drop(coder *c)
{
    cad_free(&c->x);
    cad_free(&c->codes);
    cad_free(&c->scales);
}

/* The largest matrix decides. */
static cad_status take_room(coder *c)
{
    c->piece = PIECE;
    for (int i = 0; i < c->params->count; i++) {
        const cad_param *p = &c->params->row[i];
        if (!p->code) continue;
        c->piece = cad_max(c->piece, p->code == CAD_INT8 ? p->cols : 0);
        c->blocks = cad_max(c->blocks, cad_coded_layout_of(p->code, p->nested, p->rows, p->cols).blocks);
    }
    CAD_TRY(cad_alloc(&c->x, (size_t)c->piece, sizeof *c->x, "a piece of a matrix"));
    CAD_TRY(cad_alloc(&c->codes, (size_t)c->piece, 1, "its codes"));
    return cad_alloc(&c->scales, (size_t)cad_max(c->blocks, 1), sizeof *c->scales, "scales of a matrix");
}

static void code_rows(coder *c, const cad_param *p, int64_t row, int64_t rows)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        c->scales[row + i] = cad_int8_scale(c->x + i * p->cols, p->cols);
        cad_quantise_int8(c->x + i * p->cols, p->cols, c->scales[row + i], (int8_t *)c->codes + i * p->cols);
    }
}

/* Every scale of the matrix; its codes are written on the way, or left. */
static cad_status code_matrix(coder *c, bool writes, const cad_st_tensor *t, const cad_param *p)
{
    bool bytes = p->code == CAD_INT8;
    int64_t each = bytes ? c->piece / p->cols * p->cols : c->piece / CAD_QUANT_BLOCK * CAD_QUANT_BLOCK;

    for (int64_t from = 0; from < t->elems; from += each) {
        int64_t n = cad_min(each, t->elems - from);
        CAD_TRY(cad_st_read_f32(t, from, n, c->x));
        if (bytes) code_rows(c, p, from / p->cols, n / p->cols);
        else cad_to_codes(p->code, c->x, n, c->codes, c->scales + from / CAD_QUANT_BLOCK);
        if (writes) CAD_TRY(cad_st_write(c->writer, c->codes, (size_t)(bytes ? n : (n + 1) / 2)));
    }
    return CAD_OK;
}

/* Each part is declared (STEM without its last `less` letters, and end), or (writing) given its bytes. dims 0: one number. */
typedef struct shape { cad_dtype dtype; int dims; int64_t size[3]; } shape;

static cad_status part(coder *c, bool writes, const cad_st_tensor *t, int less, const char *end, shape s, const void *bytes)
{
    cad_str name = {0};
    cad_status status;
    int64_t n = 1;

    for (int i = 0; i < s.dims; i++) n *= s.size[i];
    if (writes) return bytes ? cad_st_write(c->writer, bytes, (size_t)n * cad_dtype_bytes(s.dtype)) : CAD_OK;
    status = cad_str_addf(&name, "%.*s%s", (int)strlen(t->name) - less, t->name, end);
    if (!status) status = cad_st_declare(c->writer, name.data, s.dtype, s.size, s.dims);
    cad_str_close(&name);
    return status;
}

static shape list_of(cad_dtype dtype, int64_t n) { return (shape){dtype, 1, {n, 0, 0}}; }

static cad_status put_scales(coder *c, bool writes, const cad_st_tensor *t, const cad_coded_layout *l, float offset)
{
    uint8_t *nested = NULL;
    float *scales2 = NULL;
    cad_status status = CAD_OK;

    if (!c->method.nested) return part(c, writes, t, 0, ".absmax", list_of(CAD_F32, l->blocks), c->scales);
    if (writes) status = cad_alloc(&nested, (size_t)l->blocks, 1, "scales");
    if (writes && !status) status = cad_alloc(&scales2, (size_t)l->blocks2, sizeof *scales2, "scales");
    if (writes && !status) cad_nest_scales(c->scales, l->blocks, offset, nested, scales2);
    if (!status) status = part(c, writes, t, 0, ".absmax", list_of(CAD_U8, l->blocks), nested);
    if (!status) status = part(c, writes, t, 0, ".nested_absmax", list_of(CAD_F32, l->blocks2), scales2);
    if (!status) status = part(c, writes, t, 0, ".nested_quant_map", list_of(CAD_F32, 256), cad_dynamic_map(true));
    cad_free(&nested);
    cad_free(&scales2);
    return status;
}

/* The state is text of a length that depends on the offset, so that declaring needs the scales as well. */
static cad_status put_4bit(coder *c, bool writes, const cad_st_tensor *t, const cad_param *p)
{
    cad_coded_layout l = cad_coded_layout_of(p->code, p->nested, p->rows, p->cols);
    cad_str text = {0}, end = {0};
    cad_status status = writes || p->nested ? code_matrix(c, writes, t, p) : CAD_OK;

    if (!status) status = state_text(&text, c, p, t->dtype, p->nested ? cad_mean_scale(c->scales, l.blocks) : 0);
    if (!status) status = cad_str_addf(&end, ".quant_state.bitsandbytes__%s", cad_code_name(p->code));
    if (!status) status = part(c, writes, t, 0, "", (shape){CAD_U8, 2, {(p->elems + 1) / 2, 1, 0}}, NULL);
    if (!status) status = put_scales(c, writes, t, &l, p->nested ? cad_mean_scale(c->scales, l.blocks) : 0);
    if (!status) status = part(c, writes, t, 0, ".quant_map", list_of(CAD_F32, 16), cad_code_book(p->code));
    if (!status) status = part(c, writes, t, 0, end.data, list_of(CAD_U8, (int64_t)text.size), text.data);
    cad_str_close(&text);
    cad_str_close(&end);
    return status;
}

/* Beside NAME.weight stand NAME.SCB and NAME.weight_format, one byte that says "row". */
static cad_status put_8bit(coder *c, bool writes, const cad_st_tensor *t, const cad_param *p)
{
    const int less = (int)strlen("weight");

    if (writes) CAD_TRY(code_matrix(c, true, t, p));
    CAD_TRY(part(c, writes, t, 0, "", (shape){CAD_I8, 2, {p->rows, p->cols, 0}}, NULL));
    CAD_TRY(part(c, writes, t, less, "SCB", list_of(CAD_F32, p->rows), c->scales));
    return part(c, writes, t, 0, "_format", (shape){CAD_U8, 0, {0, 0, 0}}, "");
}

static cad_status put_all(coder *c, bool writes)
{
    for (int i = 0; i < cad_st_count(c->from); i++) {
        const cad_st_tensor *t = cad_st_at(c->from, i);
        const cad_param *p = row_of(c, t);
        if (p) CAD_TRY(p->code == CAD_INT8 ? put_8bit(c, writes, t, p) : put_4bit(c, writes, t, p));
        else if (writes) CAD_TRY(cad_st_write(c->writer, t->data, t->bytes));
        else CAD_TRY(cad_st_declare(c->writer, t->name, t->dtype, t->shape, t->dims));
    }
    return CAD_OK;
}

/* ---- config.json ---- */

static cad_status put_quantization(const coder *c, cad_json *j)
{
    bool eight = c->method.code == CAD_INT8;

    CAD_TRY(cad_json_begin(j, "quantization_config", '{'));
    CAD_TRY(cad_json_bool(j, "_load_in_4bit", !eight));
    CAD_TRY(cad_json_bool(j, "_load_in_8bit", eight));
    CAD_TRY(cad_json_string(j, "bnb_4bit_compute_dtype", cadp_codes_compute_in_bf16(c->o) || c->o->training.bf16 ? "bfloat16" : "float32"));
    CAD_TRY(cad_json_string(j, "bnb_4bit_quant_storage", "uint8"));
    CAD_TRY(cad_json_string(j, "bnb_4bit_quant_type", eight ? "fp4" : cad_code_name(c->method.code)));
    CAD_TRY(cad_json_bool(j, "bnb_4bit_use_double_quant", c->method.nested));
    CAD_TRY(cad_json_bool(j, "llm_int8_enable_fp32_cpu_offload", false));
    CAD_TRY(cad_json_bool(j, "llm_int8_has_fp16_weight", false));
    CAD_TRY(cad_json_null(j, "llm_int8_skip_modules"));
    CAD_TRY(cad_json_real(j, "llm_int8_threshold", 6));
    CAD_TRY(cad_json_bool(j, "load_in_4bit", !eight));
    CAD_TRY(cad_json_bool(j, "load_in_8bit", eight));
    CAD_TRY(cad_json_string(j, "quant_method", "bitsandbytes"));
    return cad_json_end(j);
}

static cad_status put_config(const coder *c, cad_json *j, const cad_node *root)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    for (const cad_node *n = root->child; n; n = n->next)
        if (strcmp(n->key, "quantization_config")) CAD_TRY(cad_json_node(j, n->key, n));
    CAD_TRY(put_quantization(c, j));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

static cad_status write_config(const coder *c, const char *from, const char *to)
{
    cad_json j = {.pretty = true};
    cad_str path = {0};
    cad_tree *tree = NULL;
    cad_status status = cadp_join(&path, from, "config.json");

    if (!status) status = cad_json_read(&tree, path.data, 16 << 20, CAD_EMODEL);
    if (!status) status = put_config(c, &j, tree->root);
    if (!status) status = cadp_join(&path, to, "config.json");
    if (!status) status = cad_write_file(path.data, j.text.data, j.text.size);
    cad_json_close(&j);
    cad_tree_close(&tree);
    cad_str_close(&path);
    return status;
}

static cad_status run(coder *c, const char *from, const char *to)
{
    CAD_TRY(cad_arch_read(&c->arch, from));
    if (c->arch.code) return cad_fail(CAD_EMODEL, "%s: expected a model of plain numbers, found one that is held as %s", from, cad_code_name(c->arch.code));
    c->method = (cad_method){.num_labels = cad_max(1, c->arch.num_labels), .compute = CAD_F32};
    cadp_codes_of(c->o, &c->arch, &c->method);
    c->method.plain_experts |= c->method.code == CAD_INT8;
    CAD_TRY(cad_params_open(&c->params, &c->arch, &c->method));
    CAD_TRY(take_room(c));
    CAD_TRY(cad_st_open(&c->from, from));
    CAD_TRY(cad_st_create(&c->writer, to, "model.safetensors", 5000000000));
    CAD_TRY(put_all(c, false));
    CAD_TRY(put_all(c, true));
    CAD_TRY(cad_st_finish(c->writer));
    CAD_TRY(write_config(c, from, to));
    CAD_TRY(cadp_copy_if_there(from, to, "generation_config.json"));
    CAD_TRY(cadp_copy_if_there(from, to, cadp_beside_file));
    return cadp_copy_tokenizer(from, to);
}

cad_status cadp_write_codes(const cad_options *o, const char *from, const char *to)
{
    coder c = {.o = o};
    cad_status status = run(&c, from, to);

    drop(&c);
    cad_st_abandon(&c.writer);
    cad_st_close(&c.from);
    cad_params_close(&c.params);
    return status;
}
