/* What every fuzz target has: one input, and the seeds it begins with. With libFuzzer (make fuzz) inputs come from there; replay.c runs the seeds and what
 * is near them in the ordinary build. */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H
#include <cadtrain/base.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
/* The i-th seed into *out; false: there is none. */
bool fuzz_seed(int i, cad_str *out);
extern const int fuzz_near; /* changes that replay tries near each seed */

static inline bool fuzz_text(const char *const *texts, int count, int i, cad_str *out)
{
    if (i >= count) return false;
    if (cad_str_add(out, texts[i], strlen(texts[i]))) CAD_ASSERT(!"memory");
    return true;
}
#endif
