/* Any bytes as a .gguf file: refused in one sentence by every reader of it, or tensors whose every value can be read, a config.json, a tokenizer. */
#include "fuzz.h"
#include "gguf_file.h"

#include <cadtrain/model.h>
#include <cadtrain/text.h>

const int fuzz_near = 300;

bool fuzz_seed(int i, cad_str *out)
{
    gguf_file f = {0};

    if (i > 2) return false;
    if (i < 2) gguf_tiny(&f, i);
    else
        for (int type = 0; type < 31; type++) {
            static const size_t sizes[31] = {1024, 512, 144, 160, 0, 0, 176, 192, 272, 0, 0, 0, 144, 176, 210, 0, 0, 0, 0, 0, 0, 0, 0, 0, 256, 512, 1024, 2048, 2048, 0, 512};
            char name[] = {'t', (char)('a' + type % 26), (char)('a' + type / 26), 0};
            if (sizes[type]) gguf_tensor(&f, name, type, 256, 0, NULL, sizes[type]);
        }
    gguf_build(&f, out);
    gguf_close(&f);
    return true;
}

static void read_all(const cad_st_tensor *t)
{
    float *x;

    if (t->elems > 1 << 20) return;
    CAD_ASSERT(!cad_alloc(&x, (size_t)t->elems, sizeof *x, "values"));
    if (cad_st_read_f32(t, 0, t->elems, x)) CAD_ASSERT(cad_reason()[0]);
    cad_free(&x);
    cad_clear();
}

static void read_model(const char *file)
{
    cad_arch *arch;
    cad_st *st = NULL;
    char *text = NULL;
    size_t n;

    CAD_ASSERT(!cad_alloc(&arch, 1, sizeof *arch, "an architecture"));
    if (cad_arch_text(&text, &n, file) || cad_arch_parse(arch, text, n, "f")) CAD_ASSERT(cad_reason()[0]);
    cad_clear();
    if (cad_weights_open(&st, file)) CAD_ASSERT(cad_reason()[0]);
    for (int i = 0; st && i < cad_st_count(st); i++) read_all(cad_st_at(st, i));
    cad_clear();
    cad_st_close(&st);
    cad_free(&text);
    cad_free(&arch);
}

static void read_words(const char *file)
{
    static const char text[] = "abc <s> a  b\n";
    cad_tokenizer *t = NULL;
    cad_ids ids = {0};

    if (cad_tokenizer_open(&t, file) || cad_tokenizer_encode(t, text, sizeof text - 1, true, &ids)) CAD_ASSERT(cad_reason()[0]);
    for (int64_t i = 0; i < ids.count; i++) CAD_ASSERT(ids.data[i] >= 0 && ids.data[i] < cad_tokenizer_size(t));
    cad_tokenizer_close(&t);
    cad_free(&ids.data);
    cad_clear();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const char *file = fuzz_keep("model.gguf", bytes, n);
    cad_gguf *g = NULL;

    cad_clear();
    if (cad_gguf_open(&g, file)) {
        CAD_ASSERT(cad_reason()[0]);
        CAD_ASSERT(cad_mem_peak() < (int64_t)64 << 20);
        cad_clear();
    } else {
        for (int i = 0; i < cad_gguf_count(g); i++) read_all(cad_gguf_at(g, i));
        read_model(file);
        if (cad_crc32c(0, bytes, n) % 8 == 0) read_words(file); /* a loader takes a thousand times as long */
    }
    cad_gguf_close(&g);
    cad_clear();
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
