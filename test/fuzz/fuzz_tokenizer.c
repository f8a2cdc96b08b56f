/* Bytes before the first NUL: a tokenizer.json; behind it: a text, encoded and decoded with what was accepted. Nothing before the NUL: tokenizers of our
 * own. Runs from the repository root. */
#include "../../src/text/text_priv.h"
#include "fuzz.h"
#include <stdio.h>
#include <stdlib.h>

const int fuzz_near = 150;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const files[] = {"llama3", "legacy", "metaspace_first", "bert_uncased"};
    static const char text[] = "\0Caf\xC3\xA9 won't 12345  <s> [CLS]\r\n\xE2\x96\x81x";
    char path[256], *bytes;
    size_t n;

    if (i > 4) return false;
    if (i < 4) {
        snprintf(path, sizeof path, "test/unit/text/data/%s/tokenizer.json", files[i]);
        CAD_ASSERT(!cad_read_file(&bytes, &n, path, 1 << 20, CAD_EMODEL) && !cad_str_add(out, bytes, n));
        cad_free(&bytes);
    }
    CAD_ASSERT(!cad_str_add(out, text, sizeof text - 1));
    return true;
}

static cad_status use(const cad_tokenizer *t, const char *text, size_t n)
{
    cad_ids ids = {0};
    cad_str back = {0};
    cad_status status = cad_tokenizer_encode(t, text, n, true, &ids);

    for (int64_t i = 0; i < ids.count; ++i) CAD_ASSERT(ids.data[i] >= 0 && ids.data[i] < cad_tokenizer_size(t));
    if (!status) status = cad_tokenizer_decode(t, ids.data, ids.count, &back);
    if (!status) CAD_ASSERT(cad_utf8_valid(back.data, back.size, NULL));
    cad_str_close(&back);
    cad_free(&ids.data);
    return status;
}

static const char *const own[] = {"llama3", "o200k", "legacy", "metaspace_first", "gpt2", "unknown", "bert_uncased", "split_contiguous"};

static void own_tokenizers(const char *text, size_t n)
{
    static cad_tokenizer *t[sizeof own / sizeof own[0]]; /* kept from one input to the next */
    char path[256];

    for (size_t i = 0; i < sizeof own / sizeof own[0]; ++i) {
        snprintf(path, sizeof path, "test/unit/text/data/%s", own[i]);
        if (!t[i] && cad_tokenizer_open(&t[i], path)) abort();
        if (use(t[i], text, n)) CAD_ASSERT(!cad_utf8_valid(text, n, NULL));
        cad_clear();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cad_tokenizer *t;
    const uint8_t *end = memchr(data, 0, size);
    const char *text = (const char *)(end ? end + 1 : data + size);
    size_t file = end ? (size_t)(end - data) : size, n = end ? size - file - 1 : 0;

    if (!file) own_tokenizers(text, n);
    else if (!cadp_tokenizer_parse(&t, (const char *)data, file, "tokenizer.json")) {
        if (use(t, text, n)) cad_clear();
        cad_tokenizer_close(&t);
    }
    cad_clear();
    return 0;
}
