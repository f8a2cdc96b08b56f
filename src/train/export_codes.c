/* A model directory with its linear weights as codes, as Transformers and bitsandbytes write it. */
#include "merge_priv.h"

typedef struct coder {
    const cad_options *o;
    cad_arch arch;
    cad_method method;
    cad_params *params;
    cad_st *from;
    cad_st_writer *writer;
    float *x, *scales;   /* a matrix; its scales */
    uint8_t *codes;
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

    out->size = 0;
    CAD_TRY(cad_str_addf(out, "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"%s\", \"shape\": [%lld, %lld]", cad_code_name(c->method.code), CAD_QUANT_BLOCK, torch_name(dtype), (long long)p->rows, (long long)p->cols));
    (void)cad_format_real(number, (double)offset);
    if (c->method.nested) CAD_TRY(cad_str_addf(out, ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\", \"nested_offset\": %s", CAD_SCALE_BLOCK, number));
    return cad_str_addf(out, "}");
}

/* ---- a matrix ---- */

static cad_status quantise(coder *c, const cad_st_tensor *t, float *offset)
{
    int64_t n = t->elems, blocks = cad_ceil_div(n, CAD_QUANT_BLOCK);

    CAD_TRY(cad_alloc(&c->x, (size_t)n, sizeof *c->x, "a matrix"));
    CAD_TRY(cad_alloc(&c->codes, (size_t)(n + 1) / 2, 1, "its codes"));
    CAD_TRY(cad_alloc(&c->scales, (size_t)blocks, sizeof *c->scales, "its scales"));
    CAD_TRY(cad_st_read_f32(t, 0, n, c->x));
    cadp_to_codes(c->method.code, c->x, n, c->codes, c->scales);
    *offset = c->method.nested ? cad_mean_scale(c->scales, blocks) : 0;
    return CAD_OK;
}

static void drop(coder *c)
{
    cad_free(&c->x);
    cad_free(&c->codes);
    cad_free(&c->scales);
}

/* Each part is declared, or (writing) given its bytes. */
static cad_status part(coder *c, bool writes, const char *stem, const char *end, cad_dtype dtype, int64_t rows, int64_t cols, const void *bytes)
{
    cad_str name = {0};
    cad_status status;

    if (writes) return cad_st_write(c->writer, bytes, (size_t)(rows * cad_max(cols, 1)) * cad_dtype_bytes(dtype));
    status = cad_str_addf(&name, "%s%s", stem, end);
    if (!status) status = cad_st_declare(c->writer, name.data, dtype, (int64_t[]){rows, cols}, cols ? 2 : 1);
    cad_str_close(&name);
    return status;
}

static cad_status put_scales(coder *c, bool writes, const cad_st_tensor *t, const cad_coded_layout *l, float offset)
{
    uint8_t *nested = NULL;
    float *scales2 = NULL;
    cad_status status = CAD_OK;

    if (!c->method.nested) return part(c, writes, t->name, ".absmax", CAD_F32, l->blocks, 0, c->scales);
    if (writes) status = cad_alloc(&nested, (size_t)l->blocks, 1, "scales");
    if (writes && !status) status = cad_alloc(&scales2, (size_t)l->blocks2, sizeof *scales2, "scales");
    if (writes && !status) cad_nest_scales(c->scales, l->blocks, offset, nested, scales2);
    if (!status) status = part(c, writes, t->name, ".absmax", CAD_U8, l->blocks, 0, nested);
    if (!status) status = part(c, writes, t->name, ".nested_absmax", CAD_F32, l->blocks2, 0, scales2);
    if (!status) status = part(c, writes, t->name, ".nested_quant_map", CAD_F32, 256, 0, cad_dynamic_map(true));
    cad_free(&nested);
    cad_free(&scales2);
    return status;
}

/* The state is text of a length that depends on the offset, so that declaring needs the codes as well. */
static cad_status put_matrix(coder *c, bool writes, const cad_st_tensor *t, const cad_param *p)
{
    cad_coded_layout l = cad_coded_layout_of(c->method.code, c->method.nested, p->rows, p->cols);
    cad_str text = {0}, end = {0};
    float offset = 0;
    cad_status status = CAD_OK;

    if (writes || c->method.nested) status = quantise(c, t, &offset);
    if (!status) status = state_text(&text, c, p, t->dtype, offset);
    if (!status) status = cad_str_addf(&end, ".quant_state.bitsandbytes__%s", cad_code_name(c->method.code));
    if (!status) status = part(c, writes, t->name, "", CAD_U8, (p->elems + 1) / 2, 1, c->codes);
    if (!status) status = put_scales(c, writes, t, &l, offset);
    if (!status) status = part(c, writes, t->name, ".quant_map", CAD_F32, 16, 0, cad_code_book(c->method.code));
    if (!status) status = part(c, writes, t->name, end.data, CAD_U8, (int64_t)text.size, 0, text.data);
    cad_str_close(&text);
    cad_str_close(&end);
    drop(c);
    return status;
}

static cad_status put_all(coder *c, bool writes)
{
    for (int i = 0; i < cad_st_count(c->from); i++) {
        const cad_st_tensor *t = cad_st_at(c->from, i);
        const cad_param *p = row_of(c, t);
        if (p) CAD_TRY(put_matrix(c, writes, t, p));
        else if (writes) CAD_TRY(cad_st_write(c->writer, t->data, t->bytes));
        else CAD_TRY(cad_st_declare(c->writer, t->name, t->dtype, t->shape, t->dims));
    }
    return CAD_OK;
}

/* ---- config.json ---- */

static cad_status put_quantization(const coder *c, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, "quantization_config", '{'));
    CAD_TRY(cad_json_bool(j, "_load_in_4bit", true));
    CAD_TRY(cad_json_bool(j, "_load_in_8bit", false));
    CAD_TRY(cad_json_string(j, "bnb_4bit_compute_dtype", cadp_codes_compute_in_bf16(c->o) || c->o->training.bf16 ? "bfloat16" : "float32"));
    CAD_TRY(cad_json_string(j, "bnb_4bit_quant_storage", "uint8"));
    CAD_TRY(cad_json_string(j, "bnb_4bit_quant_type", cad_code_name(c->method.code)));
    CAD_TRY(cad_json_bool(j, "bnb_4bit_use_double_quant", c->method.nested));
    CAD_TRY(cad_json_bool(j, "llm_int8_enable_fp32_cpu_offload", false));
    CAD_TRY(cad_json_bool(j, "llm_int8_has_fp16_weight", false));
    CAD_TRY(cad_json_null(j, "llm_int8_skip_modules"));
    CAD_TRY(cad_json_real(j, "llm_int8_threshold", 6));
    CAD_TRY(cad_json_bool(j, "load_in_4bit", true));
    CAD_TRY(cad_json_bool(j, "load_in_8bit", false));
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
    CAD_TRY(cad_params_open(&c->params, &c->arch, &c->method));
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
