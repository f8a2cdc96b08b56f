/* GGUF files put together by hand, for tests and fuzzers. */
#ifndef TEST_GGUF_FILE_H
#define TEST_GGUF_FILE_H
#include <cadtrain/format.h>

typedef struct gguf_file { cad_str meta, infos, data; uint64_t keys, tensors; } gguf_file;

static inline void gguf_bytes(cad_str *s, const void *p, size_t n)
{
    if (cad_str_add(s, p, n)) CAD_ASSERT(!"memory");
}

static inline void gguf_little(cad_str *s, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) gguf_bytes(s, &(unsigned char){(unsigned char)(v >> (8 * i))}, 1);
}

static inline void gguf_text(cad_str *s, const char *text)
{
    gguf_little(s, strlen(text), 8);
    gguf_bytes(s, text, strlen(text));
}

static inline void gguf_key(gguf_file *f, const char *key, int type)
{
    gguf_text(&f->meta, key);
    gguf_little(&f->meta, (uint64_t)type, 4);
    f->keys++;
}

static inline void gguf_u32(gguf_file *f, const char *key, uint32_t v)
{
    gguf_key(f, key, 4);
    gguf_little(&f->meta, v, 4);
}

static inline void gguf_f32(gguf_file *f, const char *key, float v)
{
    uint32_t u;

    memcpy(&u, &v, 4);
    gguf_key(f, key, 6);
    gguf_little(&f->meta, u, 4);
}

static inline void gguf_string(gguf_file *f, const char *key, const char *v)
{
    gguf_key(f, key, 8);
    gguf_text(&f->meta, v);
}

static inline void gguf_strings(gguf_file *f, const char *key, const char *const *v, int n)
{
    gguf_key(f, key, 9);
    gguf_little(&f->meta, 8, 4);
    gguf_little(&f->meta, (uint64_t)n, 8);
    for (int i = 0; i < n; i++) gguf_text(&f->meta, v[i]);
}

static inline void gguf_ints(gguf_file *f, const char *key, const int *v, int n)
{
    gguf_key(f, key, 9);
    gguf_little(&f->meta, 5, 4);
    gguf_little(&f->meta, (uint64_t)n, 8);
    for (int i = 0; i < n; i++) gguf_little(&f->meta, (uint64_t)(uint32_t)v[i], 4);
}

/* cols x rows (0: a vector) of a type, with `bytes` of data (NULL: zeros). */
static inline void gguf_tensor(gguf_file *f, const char *name, int type, uint64_t cols, uint64_t rows, const void *bytes, size_t n)
{
    gguf_text(&f->infos, name);
    gguf_little(&f->infos, rows ? 2 : 1, 4);
    gguf_little(&f->infos, cols, 8);
    if (rows) gguf_little(&f->infos, rows, 8);
    gguf_little(&f->infos, (uint64_t)type, 4);
    gguf_little(&f->infos, f->data.size, 8);
    if (bytes) gguf_bytes(&f->data, bytes, n);
    else
        for (size_t i = 0; i < n; i++) gguf_bytes(&f->data, "", 1);
    while (f->data.size % 32) gguf_bytes(&f->data, "", 1);
    f->tensors++;
}

static inline void gguf_build(const gguf_file *f, cad_str *out)
{
    out->size = 0;
    gguf_bytes(out, "GGUF", 4);
    gguf_little(out, 3, 4);
    gguf_little(out, f->tensors, 8);
    gguf_little(out, f->keys, 8);
    if (f->meta.size) gguf_bytes(out, f->meta.data, f->meta.size);
    if (f->infos.size) gguf_bytes(out, f->infos.data, f->infos.size);
    while (out->size % 32) gguf_bytes(out, "", 1);
    if (f->data.size) gguf_bytes(out, f->data.data, f->data.size);
}

static inline void gguf_close(gguf_file *f)
{
    cad_str_close(&f->meta);
    cad_str_close(&f->infos);
    cad_str_close(&f->data);
}

/* A whole tiny model: two layers of width 8, four heads of two, byte-level or SentencePiece words. */
static inline void gguf_tiny(gguf_file *f, bool bytes)
{
    static const char *const words[] = {"a", "b", "c", "ab", "abc", "<s>", "\xE2\x96\x81", "\xE2\x96\x81\x61"}, *const merges[] = {"a b", "ab c"};
    static const char *const parts[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    static const int kinds[] = {1, 1, 1, 1, 1, 3, 1, 1};
    char name[64];

    gguf_string(f, "general.architecture", "llama");
    gguf_u32(f, "llama.block_count", 2);
    gguf_u32(f, "llama.context_length", 64);
    gguf_u32(f, "llama.embedding_length", 8);
    gguf_u32(f, "llama.feed_forward_length", 16);
    gguf_u32(f, "llama.attention.head_count", 2);
    gguf_f32(f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_string(f, "tokenizer.ggml.model", bytes ? "gpt2" : "llama");
    gguf_string(f, "tokenizer.ggml.pre", bytes ? "qwen2" : "default");
    gguf_strings(f, "tokenizer.ggml.tokens", words, 8);
    gguf_ints(f, "tokenizer.ggml.token_type", kinds, 8);
    if (bytes) gguf_strings(f, "tokenizer.ggml.merges", merges, 2);
    gguf_u32(f, "tokenizer.ggml.bos_token_id", 5);
    gguf_tensor(f, "token_embd.weight", 0, 8, 8, NULL, 256);
    gguf_tensor(f, "output_norm.weight", 0, 8, 0, NULL, 32);
    for (int l = 0; l < 2; l++) {
        for (int i = 0; i < 4; i++) {
            CAD_ASSERT(l < 10 && strlen(parts[i]) < 32);
            memcpy(name, "blk.0.", 7);
            name[4] = (char)('0' + l);
            memcpy(name + 6, parts[i], strlen(parts[i]));
            memcpy(name + 6 + strlen(parts[i]), ".weight", 8);
            gguf_tensor(f, name, 1, 8, 8, NULL, 128);
        }
    }
}
#endif
