/* Feeds the header parser of safetensors. */
#include "../../src/format/st_priv.h"
#include "fuzz.h"

const int fuzz_near = 3000;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const heads[] = {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[16,18]}}", "{\"__metadata__\":{\"format\":\"pt\"}}"};
    static const size_t data[] = {18, 0};
    unsigned char size[8] = {0};
    cad_status status;

    if (i >= 2) return false;
    size[0] = (unsigned char)strlen(heads[i]);
    status = cad_str_add(out, size, 8);
    if (!status) status = cad_str_add(out, heads[i], strlen(heads[i]));
    for (size_t k = 0; k < data[i] && !status; k++) status = cad_str_add(out, "", 1);
    CAD_ASSERT(!status);
    return true;
}

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
