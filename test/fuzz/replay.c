/* Runs the seeds of one fuzz target, every beginning of them, and changes of single bytes in a fixed order; or: --write FOLDER writes the seeds there;
 * or runs the files named. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>

static void run(const char *bytes, size_t n)
{
    (void)LLVMFuzzerTestOneInput((const uint8_t *)bytes, n);
}

typedef struct seed { char *data; size_t size; } seed; /* outside the counted memory: targets check that nothing of it is left */

static seed copied(cad_str *s)
{
    seed c = {malloc(s->size + 1), s->size};

    if (!c.data) abort();
    memcpy(c.data, s->data ? s->data : "", s->size);
    cad_str_close(s);
    return c;
}

static void run_near(seed *s, uint64_t turn)
{
    char spare[] = {0, 1, 9, 10, '"', '{', '[', ',', ':', '-', '0', '9', 'e', 127, -128, -1};

    for (size_t k = 0; k <= (size_t)fuzz_near / 2 && s->size; k++) run(s->data, s->size * k / ((size_t)fuzz_near / 2));
    for (int i = 0; i < fuzz_near && s->size; i++) {
        uint32_t w[4];
        cad_rng_words(turn, CAD_RNG_TEST, 0, (uint64_t)i, w);
        size_t at = w[0] % s->size;
        char was = s->data[at];
        s->data[at] = w[1] & 1 ? spare[w[2] % sizeof spare] : (char)(was ^ (1 << w[2] % 8));
        run(s->data, s->size);
        s->data[at] = was;
    }
}

static int write_seeds(const char *dir)
{
    cad_str s = {0};

    for (int i = 0; fuzz_seed(i, &s); i++) {
        char path[512];
        FILE *f;
        snprintf(path, sizeof path, "%s/seed-%03d", dir, i);
        if (!(f = fopen(path, "wb")) || fwrite(s.data ? s.data : "", 1, s.size, f) != s.size || fclose(f)) return 1;
        s.size = 0;
    }
    cad_str_close(&s);
    return 0;
}

static int run_file(const char *path)
{
    cad_str s = {0};
    size_t n;
    seed c;

    if (cad_read_file(&s.data, &n, path, 1 << 28, CAD_EDATA)) return 1;
    s.size = n;
    c = copied(&s);
    run(c.data, c.size);
    free(c.data);
    return 0;
}

int main(int argc, char **argv)
{
    cad_str s = {0};
    int seeds = 0;

    if (argc == 3 && !strcmp(argv[1], "--write")) return write_seeds(argv[2]);
    for (int i = 1; i < argc; i++)
        if (run_file(argv[i])) {
            fprintf(stderr, "%s\n", cad_reason());
            return 1;
        }
    for (; argc == 1 && fuzz_seed(seeds, &s); seeds++) {
        seed c = copied(&s);
        run(c.data, c.size);
        run_near(&c, (uint64_t)seeds);
        free(c.data);
    }
    cad_str_close(&s);
    printf("ok - %d seeds and what is near them\n", seeds);
    return 0;
}
