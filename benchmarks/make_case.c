/* The case that the benchmarks train on: make_case DIR [KEY=NUMBER…] writes DIR/model (random weights in bf16, a byte-level tokenizer),
 * DIR/train.jsonl (records of nobody, of uneven length) and DIR/case.json (token counts, FLOP of a token). All of it a function of seed. */
#include <cadtrain/data.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct sizes { int64_t hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, records, shortest, longest, mean, seed; } sizes;

/* The shape of SmolLM-135M and records of 100 to 600 tokens. */
static const sizes usual = {.hidden = 576, .layers = 30, .heads = 9, .kv_heads = 3, .head_dim = 64, .intermediate = 1536, .vocab = 49152,
                            .records = 48, .shortest = 100, .longest = 600, .mean = 300, .seed = 1};

typedef struct named { const char *name; size_t at; } named;
static const named keys[] = {
    {"hidden", offsetof(sizes, hidden)}, {"layers", offsetof(sizes, layers)}, {"heads", offsetof(sizes, heads)}, {"kv_heads", offsetof(sizes, kv_heads)},
    {"head_dim", offsetof(sizes, head_dim)}, {"intermediate", offsetof(sizes, intermediate)}, {"vocab", offsetof(sizes, vocab)},
    {"records", offsetof(sizes, records)}, {"shortest", offsetof(sizes, shortest)}, {"longest", offsetof(sizes, longest)}, {"mean", offsetof(sizes, mean)},
    {"seed", offsetof(sizes, seed)}};

static cad_status set_size(sizes *s, const char *word)
{
    const char *equals = strchr(word, '=');
    char *end = NULL;

    for (size_t i = 0; equals && i < sizeof keys / sizeof *keys; i++) {
        int64_t value;
        if (strlen(keys[i].name) != (size_t)(equals - word) || strncmp(keys[i].name, word, (size_t)(equals - word))) continue;
        value = strtoll(equals + 1, &end, 10);
        if (end == equals + 1 || *end || value < 1) break;
        memcpy((char *)s + keys[i].at, &value, sizeof value);
        return CAD_OK;
    }
    return cad_fail(CAD_EUSAGE, "expected KEY=NUMBER with a key of make_case.c, found %s", word);
}

/* ---- records ---- */

typedef struct measure { const char *name, *unit; double mean, sd; int digits; } measure;
static const measure measures[] = {
    {"Body mass index", "kg/m2", 27.4, 4.7, 1}, {"Waist circumference", "cm", 90.3, 13.4, 1}, {"Standing height", "cm", 168.4, 9.2, 1},
    {"Systolic blood pressure", "mmHg", 139.8, 19.6, 0}, {"Diastolic blood pressure", "mmHg", 82.2, 10.6, 0}, {"Pulse rate", "beats per minute", 69.4, 11.2, 0},
    {"LDL cholesterol", "mmol/L", 3.56, 0.87, 2}, {"HDL cholesterol", "mmol/L", 1.45, 0.38, 2}, {"Triglycerides", "mmol/L", 1.75, 1.02, 2},
    {"Lipoprotein A", "nmol/L", 44.2, 49.3, 1}, {"Apolipoprotein B", "g/L", 1.03, 0.24, 2}, {"Glycated haemoglobin", "mmol/mol", 36.1, 6.7, 1},
    {"Glucose", "mmol/L", 5.12, 1.24, 2}, {"Creatinine", "umol/L", 72.4, 18.4, 1}, {"Cystatin C", "mg/L", 0.91, 0.17, 2},
    {"Urate", "umol/L", 309.2, 80.4, 1}, {"Albumin", "g/L", 45.2, 2.6, 1}, {"C reactive protein", "mg/L", 2.6, 4.3, 2},
    {"Vitamin D", "nmol/L", 48.6, 21.1, 1}, {"Haemoglobin concentration", "g/dL", 14.2, 1.2, 1}, {"White blood cell count", "cells/L", 6.9, 2.1, 2},
    {"Platelet count", "cells/L", 253.0, 60.0, 0}, {"Forced vital capacity", "L", 3.78, 1.01, 2}, {"Hand grip strength", "kg", 31.2, 11.1, 0},
    {"Townsend deprivation index", "points", 1.3, 3.1, 2}, {"Sleep duration", "hours", 7.2, 1.1, 0}, {"Time spent watching television", "hours", 2.8, 1.6, 0},
    {"Number of days of moderate physical activity", "days", 3.6, 2.3, 0}};
static const char *const choices[][6] = {
    {"Sex", "female", "male"}, {"Ethnic background", "British", "Irish", "Indian", "Caribbean", "any other white background"},
    {"Smoking status", "never", "previous", "current", "prefer not to answer"},
    {"Alcohol intake frequency", "daily or almost daily", "three or four times a week", "once or twice a week", "special occasions only", "never"},
    {"Overall health rating", "excellent", "good", "fair", "poor"}, {"Illnesses of father", "heart disease", "stroke", "high blood pressure", "none of the above"},
    {"Illnesses of mother", "diabetes", "breast cancer", "heart disease", "none of the above"}, {"Usual walking pace", "slow pace", "steady average pace", "brisk pace"}};
static const char *const findings[][2] = {
    {"essential hypertension", "I10"}, {"disorders of lipoprotein metabolism", "E78"}, {"type two diabetes mellitus", "E11"}, {"angina pectoris", "I20"},
    {"gastro oesophageal reflux disease", "K21"}, {"asthma", "J45"}, {"diverticular disease of intestine", "K57"}, {"osteoarthritis of knee", "M17"},
    {"depressive episode", "F32"}, {"atrial fibrillation and flutter", "I48"}, {"hypothyroidism", "E03"}, {"pain in throat and chest", "R07"},
    {"dorsalgia", "M54"}, {"senile cataract", "H25"}, {"chronic kidney disease", "N18"}, {"gallstone disease", "K80"}, {"inguinal hernia", "K40"},
    {"iron deficiency anaemia", "D50"}, {"migraine", "G43"}, {"varicose veins of lower extremities", "I83"}};
static const char *const drugs[] = {"paracetamol", "ibuprofen", "aspirin", "omeprazole", "levothyroxine", "salbutamol", "amitriptyline", "simvastatin", "atorvastatin",
                                    "ramipril", "amlodipine", "bendroflumethiazide", "bisoprolol", "metformin", "lansoprazole", "citalopram", "glucosamine", "cod liver oil capsules"};
static const char *const joints[] = {"Age at recruitment", "Diagnosis", "recorded", "Medication", "once", "twice", "daily", "years"};
#define COUNT(list) ((int64_t)(sizeof(list) / sizeof *(list)))

typedef struct person { uint64_t seed, number; uint32_t draws; cad_str text; } person;

static double draw(person *p) { return cad_rng_uniform(p->seed, CAD_RNG_SYNTH, p->draws++, p->number); }
static int64_t pick(person *p, int64_t n) { return (int64_t)(draw(p) * (double)n); }

/* Words with the space before them, marks, digits, and the space before a digit: each is one token, because the tokenizer knows every word. */
static int64_t tokens_of(const char *text)
{
    int64_t n = 0;

    for (char before = ' '; *text; before = *text++) {
        bool letter = (*text | 32) >= 'a' && (*text | 32) <= 'z', followed = (before | 32) >= 'a' && (before | 32) <= 'z';
        if (letter) n += !followed;
        else n += *text != ' ' || (text[1] >= '0' && text[1] <= '9');
    }
    return n;
}

static cad_status tell_measure(person *p)
{
    const measure *m = &measures[pick(p, COUNT(measures))];
    double value = fabs(m->mean + m->sd * cad_rng_normal(p->seed, CAD_RNG_SYNTH, p->draws++, p->number));

    return cad_str_addf(&p->text, " %s: %.*f %s.", m->name, m->digits, value, m->unit);
}

static cad_status tell_choice(person *p, int64_t which)
{
    int64_t n = 0;

    while (n < 5 && choices[which][n + 1]) n++;
    return cad_str_addf(&p->text, "%s%s: %s.", p->text.size ? " " : "", choices[which][0], choices[which][1 + pick(p, n)]);
}

static cad_status tell_more(person *p)
{
    int64_t what = pick(p, 10), found;

    if (what < 4) return tell_measure(p);
    if (what < 5) return tell_choice(p, pick(p, COUNT(choices)));
    if (what < 7) return cad_str_addf(&p->text, " Medication: %s %s daily.", drugs[pick(p, COUNT(drugs))], draw(p) < 0.7 ? "once" : "twice");
    found = pick(p, COUNT(findings));
    return cad_str_addf(&p->text, " Diagnosis: %s (%s.%d), recorded %d.", findings[found][0], findings[found][1], (int)pick(p, 10), 1990 + (int)pick(p, 30));
}

/* About `mean` tokens, log-normal with a coefficient of variation of about a half, cut to shortest..longest. */
static double wanted(person *p, const sizes *s)
{
    double sigma = 0.5, z = cad_rng_normal(p->seed, CAD_RNG_SYNTH, p->draws++, p->number);

    return fmin(fmax((double)s->mean * exp(sigma * z - sigma * sigma / 2), (double)s->shortest), (double)s->longest - 12);
}

static cad_status tell(person *p, const sizes *s)
{
    double enough = wanted(p, s);

    CAD_TRY(tell_choice(p, 0));
    CAD_TRY(cad_str_addf(&p->text, " Age at recruitment: %d years.", 40 + (int)pick(p, 30)));
    while ((double)tokens_of(p->text.data) < enough) CAD_TRY(tell_more(p));
    return CAD_OK;
}

static cad_status write_records(const char *dir, const sizes *s)
{
    cad_json line = {0};
    cad_str all = {0};
    char *path = NULL;
    cad_status status = cad_path_join(&path, dir, "train.jsonl");

    for (int64_t i = 0; i < s->records && !status; i++) {
        person p = {.seed = (uint64_t)s->seed, .number = (uint64_t)i};
        line.text.size = 0;
        if (!(status = tell(&p, s)) && !(status = cad_json_begin(&line, NULL, '{')) && !(status = cad_json_string(&line, "input", p.text.data)) &&
            !(status = cad_json_int(&line, "output", i % 3 == 0)) && !(status = cad_json_end(&line)))
            status = cad_str_addf(&all, "%s\n", line.text.data);
        cad_str_close(&p.text);
    }
    if (!status) status = cad_write_file(path, all.data, all.size);
    cad_json_close(&line);
    cad_str_close(&all);
    cad_free(&path);
    return status;
}

/* ---- tokenizer: bytes, then every beginning of every word after a space, so that each word of the records is one token ---- */

typedef struct vocabulary { cad_json vocab, merges; cad_map *known; int64_t count; } vocabulary;

/* GPT-2's alphabet: printable bytes stand for themselves, the others for 256 onwards. */
static void byte_letter(int byte, char out[3])
{
    int code = byte, others = 0;

    for (int b = 0; b <= byte; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        code = plain ? b : 256 + others;
        others += !plain;
    }
    if (code < 128) snprintf(out, 3, "%c", code);
    else snprintf(out, 3, "%c%c", 0xc0 | code >> 6, 0x80 | (code & 63));
}

static cad_status add_token(vocabulary *v, const char *token)
{
    CAD_TRY(cad_map_set(v->known, token, strlen(token), v->count, NULL));
    return cad_json_int(&v->vocab, token, v->count++);
}

static cad_status add_word(vocabulary *v, const char *word, size_t n)
{
    char token[80] = "\xc4\xa0", merge[2][80];

    CAD_ASSERT(n + 3 < sizeof token);
    for (size_t i = 0; i < n; i++) {
        size_t have = strlen(token);
        int64_t id;
        snprintf(merge[0], sizeof merge[0], "%s", token);
        snprintf(merge[1], sizeof merge[1], "%c", word[i]);
        token[have] = word[i];
        if (cad_map_get(v->known, token, have + 1, &id)) continue;
        CAD_TRY(add_token(v, token));
        CAD_TRY(cad_json_begin(&v->merges, NULL, '['));
        CAD_TRY(cad_json_string(&v->merges, NULL, merge[0]));
        CAD_TRY(cad_json_string(&v->merges, NULL, merge[1]));
        CAD_TRY(cad_json_end(&v->merges));
    }
    return CAD_OK;
}

static cad_status add_words(vocabulary *v, const char *text)
{
    while (*text) {
        size_t n = 0;
        while ((text[n] | 32) >= 'a' && (text[n] | 32) <= 'z') n++;
        if (n) CAD_TRY(add_word(v, text, n));
        text += n ? n : 1;
    }
    return CAD_OK;
}

static cad_status add_all(vocabulary *v)
{
    char letter[3];

    for (int b = 0; b < 256; b++) {
        byte_letter(b, letter);
        CAD_TRY(add_token(v, letter));
    }
    for (int64_t i = 0; i < COUNT(measures); i++) {
        CAD_TRY(add_words(v, measures[i].name));
        CAD_TRY(add_words(v, measures[i].unit));
    }
    for (int64_t i = 0; i < COUNT(choices); i++)
        for (int k = 0; k < 6 && choices[i][k]; k++) CAD_TRY(add_words(v, choices[i][k]));
    for (int64_t i = 0; i < COUNT(findings); i++)
        for (int k = 0; k < 2; k++) CAD_TRY(add_words(v, findings[i][k]));
    for (int64_t i = 0; i < COUNT(drugs); i++) CAD_TRY(add_words(v, drugs[i]));
    for (int64_t i = 0; i < COUNT(joints); i++) CAD_TRY(add_words(v, joints[i]));
    return CAD_OK;
}

static cad_status write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char *path;
    cad_status status;

    CAD_TRY(cad_path_join(&path, dir, name));
    status = cad_write_file(path, text, n);
    cad_free(&path);
    return status;
}

static cad_status tokenizer_text(cad_str *out, vocabulary *v)
{
    CAD_TRY(cad_map_open(&v->known));
    CAD_TRY(cad_json_begin(&v->vocab, NULL, '{'));
    CAD_TRY(cad_json_begin(&v->merges, NULL, '['));
    CAD_TRY(add_all(v));
    CAD_TRY(add_token(v, "<|endoftext|>"));
    CAD_TRY(cad_json_end(&v->vocab));
    CAD_TRY(cad_json_end(&v->merges));
    return cad_str_addf(out,
                        "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{\"id\": %lld, \"content\": \"<|endoftext|>\", \"single_word\": false, "
                        "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Sequence\", "
                        "\"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
                        "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\""
                        "}, \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
                        "\"use_regex\": false}]}, \"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
                        "\"use_regex\": true}, \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, "
                        "\"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false, \"vocab\": %s, \"merges\": %s}}\n",
                        (long long)(v->count - 1), v->vocab.text.data, v->merges.text.data);
}

static cad_status write_tokenizer(const char *dir, int64_t *end_token)
{
    static const char config[] = "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"eos_token\": \"<|endoftext|>\", \"pad_token\": \"<|endoftext|>\", \"model_max_length\": 2048}\n";
    vocabulary v = {0};
    cad_str text = {0};
    cad_status status = tokenizer_text(&text, &v);

    *end_token = v.count - 1;
    if (!status) status = write_text(dir, "tokenizer.json", text.data, text.size);
    if (!status) status = write_text(dir, "tokenizer_config.json", config, sizeof config - 1);
    cad_str_close(&text);
    cad_json_close(&v.vocab);
    cad_json_close(&v.merges);
    cad_map_close(&v.known);
    return status;
}

/* ---- weights ---- */

typedef struct tensor { char name[96]; int64_t rows, columns; bool ones; } tensor; /* rows 0: a vector */

static void name_tensors(const sizes *s, tensor *t, int64_t *count)
{
    const struct { const char *name; int64_t rows, columns; } linear[] = {
        {"self_attn.q_proj", s->heads * s->head_dim, s->hidden}, {"self_attn.k_proj", s->kv_heads * s->head_dim, s->hidden},
        {"self_attn.v_proj", s->kv_heads * s->head_dim, s->hidden}, {"self_attn.o_proj", s->hidden, s->heads * s->head_dim},
        {"mlp.gate_proj", s->intermediate, s->hidden}, {"mlp.up_proj", s->intermediate, s->hidden}, {"mlp.down_proj", s->hidden, s->intermediate}};
    int64_t n = 0;

    t[n++] = (tensor){"model.embed_tokens.weight", s->vocab, s->hidden, false};
    for (int64_t layer = 0; layer < s->layers; layer++) {
        for (int64_t i = 0; i < COUNT(linear); i++, n++) {
            t[n] = (tensor){.rows = linear[i].rows, .columns = linear[i].columns};
            snprintf(t[n].name, sizeof t[n].name, "model.layers.%lld.%s.weight", (long long)layer, linear[i].name);
        }
        for (int i = 0; i < 2; i++, n++) {
            t[n] = (tensor){.columns = s->hidden, .ones = true};
            snprintf(t[n].name, sizeof t[n].name, "model.layers.%lld.%s.weight", (long long)layer, i ? "post_attention_layernorm" : "input_layernorm");
        }
    }
    t[n++] = (tensor){"model.norm.weight", 0, s->hidden, true};
    t[n++] = (tensor){"score.weight", 2, s->hidden, false};
    *count = n;
}

/* Uniform with standard deviation 0.02; eight numbers of 16 bits from one draw. */
static void fill(uint16_t *out, int64_t n, uint64_t seed, uint32_t site)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += 8) {
        uint32_t words[4];
        cad_rng_words(seed, CAD_RNG_INIT, site, (uint64_t)i, words);
        for (int64_t k = 0; k < 8 && i + k < n; k++) {
            int half = (int)(words[k / 2] >> 16 * (k % 2) & 0xffff) - 32768;
            out[i + k] = cad_f32_to_bf16((float)half * (float)(0.0346410 / 32768));
        }
    }
}

static cad_status write_tensors(cad_st_writer *w, const sizes *s, const tensor *t, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const int64_t shape[] = {t[i].rows ? t[i].rows : t[i].columns, t[i].columns};
        CAD_TRY(cad_st_declare(w, t[i].name, CAD_BF16, shape, t[i].rows ? 2 : 1));
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t n = cad_max(1, t[i].rows) * t[i].columns;
        uint16_t *values;
        cad_status status;
        CAD_TRY(cad_alloc(&values, (size_t)n, sizeof *values, t[i].name));
        if (t[i].ones)
            for (int64_t k = 0; k < n; k++) values[k] = cad_f32_to_bf16(1);
        else fill(values, n, (uint64_t)s->seed, (uint32_t)i);
        status = cad_st_write(w, values, (size_t)n * sizeof *values);
        cad_free(&values);
        CAD_TRY(status);
    }
    return cad_st_finish(w);
}

static cad_status write_weights(const char *dir, const sizes *s)
{
    cad_st_writer *w = NULL;
    tensor *t;
    int64_t count;
    cad_status status;

    CAD_TRY(cad_alloc(&t, (size_t)(s->layers * 9 + 3), sizeof *t, "names"));
    name_tensors(s, t, &count);
    if (!(status = cad_st_create(&w, dir, "model.safetensors", 0))) status = write_tensors(w, s, t, count);
    cad_st_abandon(&w);
    cad_free(&t);
    return status;
}

static cad_status write_config(const char *dir, const sizes *s, int64_t end_token)
{
    cad_str text = {0};
    cad_status status = cad_str_addf(&text,
                                     "{\"architectures\": [\"LlamaForSequenceClassification\"], \"model_type\": \"llama\", \"attention_bias\": false, \"attention_dropout\": 0.0, "
                                     "\"bos_token_id\": %lld, \"eos_token_id\": %lld, \"pad_token_id\": %lld, \"head_dim\": %lld, \"hidden_act\": \"silu\", \"hidden_size\": %lld, "
                                     "\"initializer_range\": 0.02, \"intermediate_size\": %lld, \"max_position_embeddings\": 2048, \"mlp_bias\": false, "
                                     "\"num_attention_heads\": %lld, \"num_hidden_layers\": %lld, \"num_key_value_heads\": %lld, \"rms_norm_eps\": 1e-05, "
                                     "\"rope_theta\": 10000.0, \"rope_scaling\": null, \"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\", "
                                     "\"use_cache\": true, \"vocab_size\": %lld}\n",
                                     (long long)end_token, (long long)end_token, (long long)end_token, (long long)s->head_dim, (long long)s->hidden, (long long)s->intermediate,
                                     (long long)s->heads, (long long)s->layers, (long long)s->kv_heads, (long long)s->vocab);

    if (!status) status = write_text(dir, "config.json", text.data, text.size);
    cad_str_close(&text);
    return status;
}

/* ---- what the runs are judged by ---- */

typedef struct counts { int64_t tokens, shortest, longest; double squares; } counts;

static cad_status count_tokens(counts *c, const char *model, const char *records)
{
    cad_tokenizer *t = NULL;
    cad_dataset *d = NULL;
    cad_status status = cad_tokenizer_open(&t, model);

    if (!status) status = cad_dataset_open(&d, t, &(cad_dataset_options){.path = records, .input_column = "input", .label_column = "output", .label_needed = true,
                                                                         .max_length = 2048, .truncation = true, .keep_left = true, .threads = 1});
    for (int64_t i = 0; !status && i < d->count; i++) {
        int64_t n = d->starts[i + 1] - d->starts[i];
        c->tokens += n;
        c->squares += (double)n * (double)n;
        c->shortest = i ? cad_min(c->shortest, n) : n;
        c->longest = cad_max(c->longest, n);
    }
    cad_dataset_close(&d);
    cad_tokenizer_close(&t);
    return status;
}

/* facts of the case: FLOP of a token by 6 N (full), 4 N + 6 A (LoRA of rank 16 on every linear layer, A its parameters), each
 * + 6 layers x heads x head_dim x length for causal attention, length averaged over tokens. */
static cad_status facts_text(cad_json *j, const sizes *s, const counts *c)
{
    int64_t wide = s->heads * s->head_dim, narrow = s->kv_heads * s->head_dim, h = s->hidden, f = s->intermediate;
    double linear = (double)s->layers * (double)(2 * h * wide + 2 * h * narrow + 3 * h * f);
    double adapter = 16.0 * (double)s->layers * (double)(2 * (h + wide) + 2 * (h + narrow) + 3 * (h + f));
    double length = c->squares / (double)c->tokens, attention = 6.0 * (double)s->layers * (double)wide * length;

    CAD_TRY(cad_json_begin(j, NULL, '{'));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t value;
        memcpy(&value, (const char *)s + keys[i].at, sizeof value);
        CAD_TRY(cad_json_int(j, keys[i].name, value));
    }
    CAD_TRY(cad_json_int(j, "parameters", (int64_t)linear + s->vocab * h + (2 * s->layers + 3) * h));
    CAD_TRY(cad_json_int(j, "tokens", c->tokens));
    CAD_TRY(cad_json_int(j, "shortest_record", c->shortest));
    CAD_TRY(cad_json_int(j, "longest_record", c->longest));
    CAD_TRY(cad_json_real(j, "mean_length_over_tokens", length));
    CAD_TRY(cad_json_real(j, "flop_per_token_lora", 4 * linear + 6 * adapter + attention));
    CAD_TRY(cad_json_real(j, "flop_per_token_full", 6 * linear + attention));
    return cad_json_end(j);
}

static cad_status write_facts(const char *dir, const char *model, const sizes *s)
{
    cad_json j = {0};
    counts c = {0};
    char *records;
    cad_status status;

    CAD_TRY(cad_path_join(&records, dir, "train.jsonl"));
    if (!(status = count_tokens(&c, model, records)) && !(status = facts_text(&j, s, &c)) && !(status = cad_str_add(&j.text, "\n", 1)))
        status = write_text(dir, "case.json", j.text.data, j.text.size);
    cad_json_close(&j);
    cad_free(&records);
    return status;
}

static cad_status make(const char *dir, const sizes *s)
{
    char *model;
    int64_t end_token;
    cad_status status;

    CAD_TRY(cad_path_join(&model, dir, "model"));
    if (!(status = cad_mkdirs(model)) && !(status = write_records(dir, s)) && !(status = write_tokenizer(model, &end_token)) && !(status = write_config(model, s, end_token)) &&
        !(status = write_weights(model, s)))
        status = write_facts(dir, model, s);
    cad_free(&model);
    return status;
}

int main(int argc, char **argv)
{
    sizes s = usual;
    cad_status status = argc < 2 ? cad_fail(CAD_EUSAGE, "expected make_case DIR [KEY=NUMBER...]") : CAD_OK;

    for (int i = 2; i < argc && !status; i++) status = set_size(&s, argv[i]);
    if (!status) status = make(argv[1], &s);
    if (status) cad_print_failure();
    return status;
}
