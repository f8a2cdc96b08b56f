/* Any bytes as model.safetensors.index.json beside two shards: refused, or every tensor can be read. */
#include "fuzz.h"

#include <cadtrain/format.h>

const int fuzz_near = 1000;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const texts[] = {
        "{\"metadata\": {\"total_size\": 16}, \"weight_map\": {\"a\": \"m-00001-of-00002.safetensors\", \"b\": \"m-00002-of-00002.safetensors\"}}",
        "{\"weight_map\": {\"b\": \"m-00002-of-00002.safetensors\"}}", "{\"weight_map\": {\"a\": \"../m.safetensors\", \"b\": 2}}"};

    return fuzz_text(texts, 3, i, out);
}

static void make_shard(const char *file, const char *head, int zeros)
{
    char bytes[256] = {0};

    bytes[0] = (char)strlen(head);
    memcpy(bytes + 8, head, strlen(head));
    fuzz_keep(file, bytes, 8 + strlen(head) + (size_t)zeros);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static bool ready;
    cad_st *st = NULL;
    float x[2];

    if (!ready) {
        make_shard("m-00001-of-00002.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
        make_shard("m-00002-of-00002.safetensors", "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4);
    }
    ready = true;
    fuzz_keep("model.safetensors.index.json", bytes, n);
    cad_clear();
    if (cad_st_open(&st, fuzz_room)) CAD_ASSERT(cad_reason()[0]);
    for (int i = 0; st && i < cad_st_count(st); i++) CAD_ASSERT(cad_st_at(st, i)->elems == 2 && !cad_st_read_f32(cad_st_at(st, i), 0, 2, x) && !x[0] && !x[1]);
    cad_st_close(&st);
    cad_clear();
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
