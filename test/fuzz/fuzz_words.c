/* The first byte picks tokenizer.model or vocab.txt; the rest is refused, or a tokenizer.json is made of it that the loader takes or refuses. */
#include "../../src/text/make.h"
#include "../../src/text/text_priv.h"
#include "fuzz.h"

const int fuzz_near = 400;

static void piece(cad_str *out, const char *text, int kind)
{
    unsigned char head[] = {0x0A, (unsigned char)(strlen(text) + 4), 0x0A, (unsigned char)strlen(text)}, tail[] = {0x18, (unsigned char)kind};

    CAD_ASSERT(!cad_str_add(out, head, 4) && !cad_str_add(out, text, strlen(text)) && !cad_str_add(out, tail, 2));
}

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const texts[] = {"1[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n", "1[UNK]\r\n[CLS]\r[SEP]\n\n\xC3\xA9"};
    char trainer[] = {0x12, 2, 0x18, (char)(i == 2 ? 2 : 1)}; /* BPE, unigram */

    if (i < 2) return fuzz_text(texts, 2, i, out);
    if (i > 3) return false;
    CAD_ASSERT(!cad_str_add(out, "0", 1));
    piece(out, "<unk>", 2);
    piece(out, "<s>", 3);
    piece(out, "a", 1);
    piece(out, "b", 1);
    piece(out, "ab", 1);
    piece(out, "\xE2\x96\x81", 1);
    CAD_ASSERT(!cad_str_add(out, trainer, 4));
    return true;
}

static void use(const cad_str *json)
{
    static const char text[] = "ab a [CLS] <s>b";
    cad_tokenizer *t = NULL;
    cad_ids ids = {0};

    if (cadp_tokenizer_parse(&t, json->data, json->size, "f") || cad_tokenizer_encode(t, text, sizeof text - 1, true, &ids)) CAD_ASSERT(cad_reason()[0]);
    cad_tokenizer_close(&t);
    cad_free(&ids.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    cad_str json = {0};
    cad_status status;

    if (!n) return 0;
    cad_clear();
    status = (bytes[0] & 1 ? cadp_make_words : cadp_make_model)("f", (const char *)bytes + 1, n - 1, NULL, NULL, &json);
    if (status) CAD_ASSERT(cad_reason()[0]);
    else if (cadp_hash((const char *)bytes, n) % 8 == 0) use(&json); /* a loader takes a thousand times as long */
    cad_str_close(&json);
    cad_clear();
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
