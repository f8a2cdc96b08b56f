#include "fit_priv.h"
#include "merge_priv.h"

#include <math.h>

enum { BLOCK_ELEMS = 1 << 20 }; /* a slice of a matrix; whole blocks of codes */

typedef struct merge {
    char *base_dir;
    const char *adapter_dir;
    cad_adapter_config config;
    cad_arch arch;
    cad_method method;
    cad_params *params;
    cad_source *source;
    cad_st *base;
    cad_st_writer *writer;
    cad_merge how;
    cad_dtype computed;  /* what the adapter was trained in */
    cad_dtype dtype;     /* of what the base does not hold */
    float *w, *a, *b;    /* rows of W; all of A; rows of B (all of it for a table of words) */
    double scale;        /* of the adapter at hand */
    int64_t r;
    void *stored;
    bool codes;          /* the matrix at hand goes through codes: */
    float *spans, *scales; /* whole blocks round the rows; the matrix's scales, as they come back from their own codes (nested) */
} merge;

/* ---- opening ---- */

static cad_status find_base(merge *m, const cad_options *o)
{
    const char *base = o->model.model_name_or_path;

    if (!base || !*base || o->demo) base = m->config.base_model;
    if (!base) return cad_fail(CAD_EMODEL, "%s/adapter_config.json: expected base_model_name_or_path, found none; name the base with --model-name-or-path", m->adapter_dir);
    return cad_find_model(&m->base_dir, base, o->model.cache_dir);
}

/* The adapter's own tensors say which head it has and for how many labels. */
static cad_status find_head(merge *m, const cad_options *o)
{
    cad_st *st;
    const cad_st_tensor *own, *score, *columns;
    cad_str name = {0};
    cad_status status;

    CAD_TRY(cad_st_open(&st, m->adapter_dir));
    own = cad_st_find(st, "base_model.model.classifier.classifier.weight");
    status = cad_str_addf(&name, "base_model.model.%s.weight", m->arch.names.head);
    score = status ? NULL : cad_st_find(st, name.data);
    m->method.custom_head = own || (!score && o->model.use_custom_binary_head);
    m->method.num_labels = (int)(own && own->dims == 2 ? own->shape[0] : score && score->dims == 2 ? score->shape[0] : m->arch.num_labels);
    m->method.train_head = own || score;
    columns = cad_st_find(st, "base_model.model.head_columns.weight");
    if (columns && columns->dims == 2) m->method.columns = (int)columns->shape[1];
    cad_st_close(&st);
    cad_str_close(&name);
    return status;
}

/* run.json beside the adapter says how its base was held; without it the options do. */
static cad_status find_codes(merge *m, const cad_options *o)
{
    const cad_node *model = NULL;
    cad_options trained = *o;
    cad_str path = {0};
    cad_tree *run = NULL;
    const char *type;
    cad_status status = cadp_join(&path, m->adapter_dir, "run.json");

    if (!status && cad_is_file(path.data)) status = cad_json_read(&run, path.data, 16 << 20, CAD_ECHECKPOINT);
    if (!status && run) model = cad_get(cad_get(run->root, "config"), "model");
    if (model && cad_get_bool(model, "load_in_4bit", &trained.model.load_in_4bit, false) && cad_get_bool(model, "load_in_8bit", &trained.model.load_in_8bit, false) &&
        cad_get_bool(model, "bnb_4bit_use_double_quant", &trained.model.bnb_4bit_use_double_quant, false) && cad_get_bool(model, "quantize_experts", &trained.model.quantize_experts, true) &&
        cad_get_string(model, "bnb_4bit_quant_type", &type, "nf4"))
        trained.model.bnb_4bit_quant_type = strcmp(type, "fp4") ? CAD_BNB_NF4 : CAD_BNB_FP4;
    if (model && (!cad_get_bool(cad_get(cad_get(run->root, "config"), "training"), "bf16", &trained.training.bf16, false) || !cad_get_string(model, "bnb_4bit_compute_dtype", &type, NULL)))
        type = NULL;
    else if (model) trained.model.bnb_4bit_compute_dtype = (char *)(uintptr_t)type;
    if (!status) cadp_codes_of(&trained, &m->arch, &m->method);
    m->computed = trained.training.bf16 || cadp_codes_compute_in_bf16(&trained) ? CAD_BF16 : CAD_F32;
    cad_tree_close(&run);
    cad_str_close(&path);
    return status;
}

static cad_status describe(merge *m, const cad_options *o)
{
    const cad_adapter_config *c = &m->config;

    CAD_TRY(cad_arch_read(&m->arch, m->base_dir));
    cad_method_take_adapter(&m->method, c);
    m->method.causal = c->causal;
    if (!c->causal) CAD_TRY(find_head(m, o));
    CAD_TRY(find_codes(m, o));
    CAD_TRY(cad_params_open(&m->params, &m->arch, &m->method));
    CAD_TRY(cad_source_open(&m->source, m->base_dir, m->adapter_dir, m->params, false));
    return cad_weights_open(&m->base, m->base_dir);
}

/* ---- precision ---- */

/* File names differ in what stands before the part behind the root. */
static bool names_same(const char *file, const cad_param *p)
{
    const char *tail = p->name + p->root;
    size_t n = strlen(file), t = strlen(tail);

    return n >= t && !strcmp(file + n - t, tail) && (n == t || file[n - t - 1] == '.');
}

static cad_dtype dtype_in_base(const merge *m, const cad_param *p)
{
    const cad_st_tensor *t = cad_st_find(m->base, p->name);

    for (int i = 0; i < cad_st_count(m->base) && !t; i++)
        if (names_same(cad_st_at(m->base, i)->name, p)) t = cad_st_at(m->base, i);
    return t && t->dtype != CAD_U8 && t->dtype != CAD_I8 ? t->dtype : m->dtype;
}

static void decide_dtype(merge *m)
{
    m->dtype = CAD_F32;
    m->dtype = dtype_in_base(m, &m->params->row[m->params->find[0][CAD_ROLE_EMBED][CAD_PIECE_WEIGHT]]);
    m->method.compute = m->dtype == CAD_BF16 ? CAD_BF16 : CAD_F32;
}

static void store(cad_dtype dtype, const float *x, int64_t n, void *out)
{
    for (int64_t i = 0; i < n; i++) {
        if (dtype == CAD_BF16) ((uint16_t *)out)[i] = cad_f32_to_bf16(x[i]);
        else if (dtype == CAD_F16) ((uint16_t *)out)[i] = cad_f32_to_f16(x[i]);
        else if (dtype == CAD_F64) ((double *)out)[i] = x[i];
        else ((float *)out)[i] = x[i];
    }
}

/* ---- arithmetic ---- */

/* W + s B A of rows [from, from + rows), a row at a time, of experts each with its own A; each row is a sum in a fixed order whatever the threads. */
static void add_adapter(const merge *m, int64_t from, int64_t rows, int64_t cols, int64_t rows_of_group)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const float *a = m->a + (from + i) / rows_of_group * m->r * cols;
        for (int64_t j = 0; j < cols; j++) {
            double sum = 0;
            for (int64_t k = 0; k < m->r; k++) sum += (double)m->b[i * m->r + k] * (double)a[k * cols + j];
            m->w[i * cols + j] = (float)((double)m->w[i * cols + j] + m->scale * sum);
        }
    }
}

/* Rows [from, from + rows) of a table of words: A has a column for each word, B a row for each of its numbers. */
static void add_to_words(const merge *m, int64_t from, int64_t rows, int64_t cols, int64_t words)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            double sum = 0;
            for (int64_t k = 0; k < m->r; k++) sum += (double)m->b[j * m->r + k] * (double)m->a[k * words + from + i];
            m->w[i * cols + j] = (float)((double)m->w[i * cols + j] + m->scale * sum);
        }
}

/* DoRA: each row is brought to its magnitude. */
static cad_status stretch(const merge *m, int row, int64_t from, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
        float length;
        double sum = 0;
        CAD_TRY(cad_source_read(m->source, row, from + i, 1, CAD_F32, &length));
        for (int64_t j = 0; j < cols; j++) sum += (double)m->w[i * cols + j] * (double)m->w[i * cols + j];
        for (int64_t j = 0; j < cols && sum > 0; j++) m->w[i * cols + j] = (float)((double)m->w[i * cols + j] * (double)length / sqrt(sum));
    }
    return CAD_OK;
}

static cad_status read_all(const merge *m, int row, float **out)
{
    int64_t n = m->params->row[row].elems;

    CAD_TRY(cad_alloc(out, (size_t)n, sizeof **out, "an adapter"));
    return cad_source_read(m->source, row, 0, n, CAD_F32, *out);
}

/* What training read before it made codes. */
static cad_status read_computed(const merge *m, int row, int64_t from, int64_t n, float *out)
{
    uint16_t *half = m->stored;

    if (m->computed != CAD_BF16) return cad_source_read(m->source, row, from, n, CAD_F32, out);
    CAD_TRY(cad_source_read(m->source, row, from, n, CAD_BF16, half));
    for (int64_t i = 0; i < n; i++) out[i] = cad_bf16_to_f32(half[i]);
    return CAD_OK;
}

/* Elements [from, from + n) of the matrix that the adapter stands beside: whole rows. */
static cad_status read_base(const merge *m, int row, int64_t from, int64_t n)
{
    const cad_param *p = &m->params->row[row];
    int64_t unit = p->code == CAD_INT8 ? 1 : CAD_QUANT_BLOCK, low = from / unit * unit, high = cad_min(p->elems, cad_round_up(from + n, unit));

    if (!m->codes) return cad_source_read(m->source, row, from, n, CAD_F32, m->w);
    CAD_TRY(read_computed(m, row, low, high - low, m->spans));
    CAD_TRY(cad_through_codes(p, m->computed, high - low, m->spans, m->scales ? m->scales + low / CAD_QUANT_BLOCK : NULL));
    memcpy(m->w, m->spans + (from - low), (size_t)n * sizeof *m->w);
    return CAD_OK;
}

/* Nested scales depend on their mean: all of them are known before the first number comes back. */
static cad_status find_scales(merge *m, int row)
{
    const cad_param *p = &m->params->row[row];
    int64_t blocks = cad_ceil_div(p->elems, CAD_QUANT_BLOCK);

    CAD_TRY(cad_alloc(&m->scales, (size_t)blocks, sizeof *m->scales, "scales"));
    for (int64_t from = 0; from < p->elems; from += BLOCK_ELEMS) {
        int64_t n = cad_min(p->elems - from, BLOCK_ELEMS);
        CAD_TRY(read_computed(m, row, from, n, m->spans));
        cad_to_codes(p->code, m->spans, n, m->stored, m->scales + from / CAD_QUANT_BLOCK);
    }
    return cad_nest_through(m->scales, blocks);
}

/* A row whose codes the base does not hold itself: made as at the start of training, and turned back. */
static cad_status begin_codes(merge *m, int row)
{
    const cad_param *p = &m->params->row[row];
    bool has;

    CAD_TRY(cad_source_read_codes(m->source, row, 0, 0, NULL, &has));
    m->codes = p->code && !has && m->how != CAD_MERGE_ORIGINAL;
    return m->codes && p->nested ? find_scales(m, row) : CAD_OK;
}

static cad_status write_rows(merge *m, int row, int a, int b, cad_dtype dtype)
{
    int magnitude = a >= 0 ? m->params->find[m->params->row[row].unit][m->params->row[row].role][CAD_PIECE_MAGNITUDE] : -1;
    const cad_param *p = &m->params->row[row];
    int64_t each = cad_max(1, BLOCK_ELEMS / p->cols);

    for (int64_t from = 0; from < p->rows; from += each) {
        int64_t rows = cad_min(each, p->rows - from), n = rows * p->cols;
        CAD_TRY(read_base(m, row, from * p->cols, n));
        if (a >= 0 && p->role == CAD_ROLE_EMBED) add_to_words(m, from, rows, p->cols, p->rows);
        else if (a >= 0) {
            CAD_TRY(cad_source_read(m->source, b, from * m->r, rows * m->r, CAD_F32, m->b));
            add_adapter(m, from, rows, p->cols, p->rows / p->groups);
            if (magnitude >= 0) CAD_TRY(stretch(m, magnitude, from, rows, p->cols));
        }
        store(dtype, m->w, n, m->stored);
        CAD_TRY(cad_st_write(m->writer, m->stored, (size_t)n * cad_dtype_bytes(dtype)));
    }
    return CAD_OK;
}

static cad_status write_one(merge *m, int row)
{
    const cad_param *p = &m->params->row[row];
    const int *pieces = m->params->find[p->unit][p->role];
    int a = p->piece == CAD_PIECE_WEIGHT ? pieces[CAD_PIECE_A] : -1, b = pieces[CAD_PIECE_B];
    cad_status status = CAD_OK;

    if (a >= 0) {
        m->scale = m->params->row[a].scale;
        m->r = m->params->row[a].rows / m->params->row[a].groups;
        status = read_all(m, a, &m->a);
    }
    if (a >= 0 && p->role == CAD_ROLE_EMBED && !status) status = cad_source_read(m->source, b, 0, m->params->row[b].elems, CAD_F32, m->b);
    if (!status) status = begin_codes(m, row);
    if (!status) status = write_rows(m, row, a, b, dtype_in_base(m, p));
    cad_free(&m->a);
    cad_free(&m->scales);
    return status;
}

/* ---- writing ---- */

static bool is_adapter_row(const cad_param *p) { return p->piece >= CAD_PIECE_A; }

/* The widest matrix decides the room for a block of rows. */
static cad_status take_room(merge *m)
{
    int64_t widest = BLOCK_ELEMS, factors = 1, tallest = 1, ranks = 1;

    for (int i = 0; i < m->params->count; i++) {
        const cad_param *p = &m->params->row[i];
        widest = cad_max(widest, p->cols);
        tallest = cad_max(tallest, cad_min(p->rows, cad_max(1, BLOCK_ELEMS / p->cols)));
        if (p->piece == CAD_PIECE_A) ranks = cad_max(ranks, p->rows);
        if (p->piece == CAD_PIECE_B && p->role == CAD_ROLE_EMBED) factors = p->elems;
    }
    CAD_TRY(cad_alloc(&m->w, (size_t)widest, sizeof *m->w, "rows of a matrix"));
    CAD_TRY(cad_alloc(&m->spans, m->method.code ? (size_t)widest + 2 * CAD_QUANT_BLOCK : 1, sizeof *m->spans, "blocks of a matrix"));
    CAD_TRY(cad_alloc(&m->b, (size_t)cad_max(tallest * ranks, factors), sizeof *m->b, "rows of an adapter"));
    return cad_alloc(&m->stored, (size_t)widest, 8, "rows of a matrix");
}

static cad_status declare_all(merge *m, const char *to)
{
    cad_method whole = m->method;
    cad_str name = {0};
    cad_status status = cad_st_create(&m->writer, to, "model.safetensors", 5000000000);

    whole.lora = false;
    whole.code = CAD_PLAIN;
    for (int i = 0; i < m->params->count && !status; i++) {
        const cad_param *p = &m->params->row[i];
        int64_t shape[3];
        int dims = cad_param_shape(p, shape);
        if (is_adapter_row(p)) continue;
        status = cadp_file_name(&name, &whole, p);
        if (!status) status = cad_st_declare(m->writer, name.data, dtype_in_base(m, p), shape, dims);
    }
    cad_str_close(&name);
    return status;
}

static void give_back(merge *m)
{
    cad_free(&m->w);
    cad_free(&m->spans);
    cad_free(&m->scales);
    cad_free(&m->a);
    cad_free(&m->b);
    cad_free(&m->stored);
}

static cad_status write_tensors(merge *m, const char *to)
{
    cad_progress bar = {0};
    cad_status status = CAD_OK;

    CAD_TRY(take_room(m));
    CAD_TRY(declare_all(m, to));
    cad_progress_begin(&bar, "merging", m->params->count);
    for (int i = 0; i < m->params->count && !status; i++) {
        if (!is_adapter_row(&m->params->row[i])) status = write_one(m, i);
        cad_progress_at(&bar, i + 1);
    }
    cad_progress_end(&bar);
    give_back(m);
    return status ? status : cad_st_finish(m->writer);
}

static cad_status write_config(const merge *m, const char *to)
{
    cad_str path = {0};
    char *text = NULL;
    size_t n;
    cad_status status = cad_arch_text(&text, &n, m->base_dir);

    if (!status) status = cadp_join(&path, to, "config.json");
    if (!status) status = cad_classifier_config_write(path.data, text, &m->arch, &m->method);
    cad_free(&text);
    cad_str_close(&path);
    return status;
}

static cad_status write_rest(const merge *m, const char *to)
{
    cad_str path = {0};
    cad_status status = cadp_join(&path, m->adapter_dir, "tokenizer.json");
    bool own = !status && cad_is_file(path.data);

    cad_str_close(&path);
    CAD_TRY(status);
    CAD_TRY(write_config(m, to));
    CAD_TRY(cadp_copy_if_there(m->base_dir, to, "generation_config.json"));
    if (m->method.columns) CAD_TRY(cadp_copy_if_there(m->adapter_dir, to, cadp_beside_file));
    return cadp_copy_tokenizer(own ? m->adapter_dir : m->base_dir, to);
}

/* The merged model is in memory while it is probed. */
static bool fits(const merge *m)
{
    int64_t need = m->params->all * (int64_t)cad_dtype_bytes(m->computed), left = cadp_memory_left("/proc/meminfo", "/sys/fs/cgroup", "/proc/self/cgroup");

    if (need < left) return true;
    cad_info("Merged into the %s weights: how far logits differ is not computed; the model takes %.1f GiB, %.1f GiB of memory are free", m->how == CAD_MERGE_ORIGINAL ? "original" : "dequantised",
             (double)need / 0x1p30, (double)left / 0x1p30);
    return false;
}

/* The adapter on codes beside the merged model. */
static cad_status tell_difference(const merge *m, const cad_options *o, const char *to)
{
    cad_method beside = m->method, whole;
    double off, largest;

    if (m->method.code == CAD_PLAIN) return CAD_OK;
    if (!fits(m)) return CAD_OK;
    beside.compute = m->computed;
    whole = beside;
    whole.lora = false;
    whole.target_count = 0;
    whole.code = CAD_PLAIN;
    CAD_TRY(cadp_probe(o, &(cadp_probed){&m->arch, &beside, m->base_dir, m->adapter_dir}, &(cadp_probed){&m->arch, &whole, to, NULL}, &off, &largest));
    cad_info("Merged into the %s weights: logits differ by at most %.3g from the adapter on %s weights, on probes whose largest is %.3g",
             m->how == CAD_MERGE_ORIGINAL ? "original" : "dequantised", off, cad_code_name(m->method.code), largest);
    return CAD_OK;
}

static cad_status run(merge *m, const cad_options *o, const char *to)
{
    CAD_TRY(cad_adapter_config_read(&m->config, m->adapter_dir));
    CAD_TRY(find_base(m, o));
    CAD_TRY(cadp_tell_base_of(m->adapter_dir, m->base_dir));
    CAD_TRY(describe(m, o));
    decide_dtype(m);
    CAD_TRY(cad_need_space(to, m->params->all * (int64_t)cad_dtype_bytes(m->dtype)));
    CAD_TRY(write_tensors(m, to));
    CAD_TRY(write_rest(m, to));
    return tell_difference(m, o, to);
}

cad_status cadp_merge(const cad_options *o, const char *adapter_dir, const char *to, cad_merge how)
{
    merge m = {.adapter_dir = adapter_dir, .how = how};
    cad_status status = run(&m, o, to);

    cad_st_abandon(&m.writer);
    cad_st_close(&m.base);
    cad_source_close(&m.source);
    cad_params_close(&m.params);
    cad_adapter_config_close(&m.config);
    cad_free(&m.base_dir);
    give_back(&m);
    return status;
}
