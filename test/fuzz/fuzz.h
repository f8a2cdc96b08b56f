/* What every fuzz target has: one input, and the seeds it begins with. With libFuzzer (make fuzz) inputs come from there; replay.c runs the seeds and what
 * is near them in the ordinary build. */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H
#include <cadtrain/base.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

static char fuzz_room[64]; /* a folder, once fuzz_keep was called; gone when the process ends */
static inline void fuzz_leave(void)
{
    if (cad_remove_tree(fuzz_room)) abort();
}

/* The bytes as a file of that name, and its path. */
static inline const char *fuzz_keep(const char *name, const void *bytes, size_t n)
{
    static char path[128];
    FILE *f;

    if (!fuzz_room[0]) {
        snprintf(fuzz_room, sizeof fuzz_room, "%s/fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        if (!mkdtemp(fuzz_room) || atexit(fuzz_leave)) abort();
    }
    snprintf(path, sizeof path, "%s/%s", fuzz_room, name);
    if (!(f = fopen(path, "wb")) || fwrite(bytes, 1, n, f) != n || fclose(f)) abort();
    return path;
}
#endif
