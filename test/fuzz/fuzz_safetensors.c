/* Feeds the header parser of safetensors.
 * clang -std=c11 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Iinclude -Isrc/format
 *   test/fuzz/fuzz_safetensors.c src/format/{st_header,dtype,json,node}.c src/base/{mem,fail,map,str,num,path,save,hash}.c -lm */
#include "st_priv.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* What an accepted header promises: tensors tile the data, each as large as its shape says. */
static void check(const cadp_header *h, const uint8_t *bytes, size_t n)
{
    const unsigned char *at = h->count ? h->tensors[0].data : bytes + n;

    for (int i = 0; i < h->count; i++) {
        const cad_st_tensor *t = &h->tensors[i];
        CAD_ASSERT((const unsigned char *)t->data == at && t->bytes == (size_t)t->elems * cad_dtype_bytes(t->dtype));
        CAD_ASSERT(cad_utf8_valid(t->name, strlen(t->name), NULL));
        at += t->bytes;
    }
    CAD_ASSERT(at == bytes + n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static size_t largest;
    cad_map *seen;
    cadp_header h;

    if (n > largest) largest = n;
    if (cad_map_open(&seen)) return 0;
    if (!cadp_st_header(&h, seen, 0, "fuzz", bytes, n)) {
        check(&h, bytes, n);
        cadp_st_header_close(&h);
    } else CAD_ASSERT(cad_reason()[0]);
    cad_map_close(&seen);
    cad_clear();
    CAD_ASSERT(cad_mem_blocks() == 0);
    CAD_ASSERT(cad_mem_peak() < (int64_t)(8 * largest) + (1 << 14)); /* bounded by the file, whatever it claims */
    return 0;
}
