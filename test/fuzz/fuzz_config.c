/* The first byte picks config.json or adapter_config.json; the rest is refused, or what it describes can be laid out. */
#include "fuzz.h"

#include <cadtrain/model.h>

const int fuzz_near = 1000;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const texts[] = {
        "0{\"model_type\": \"llama\", \"hidden_size\": 16, \"intermediate_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 32,"
        " \"max_position_embeddings\": 64, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32}}",
        "0{\"model_type\": \"qwen2\", \"hidden_size\": 16, \"intermediate_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"vocab_size\": 32, \"use_sliding_window\": true,"
        " \"sliding_window\": 8, \"layer_types\": [\"full_attention\", \"sliding_attention\"], \"id2label\": {\"0\": \"a\"}, \"pad_token_id\": 3, \"torch_dtype\": \"bfloat16\"}",
        "1{\"peft_type\": \"LORA\", \"task_type\": \"SEQ_CLS\", \"r\": 4, \"lora_alpha\": 8, \"lora_dropout\": 0.1, \"target_modules\": [\"q_proj\", \"v_proj\"], \"modules_to_save\": [\"score\"],"
        " \"bias\": \"none\", \"base_model_name_or_path\": \"x\"}",
        "1{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"target_modules\": \".*proj\", \"use_rslora\": true}"};

    return fuzz_text(texts, 4, i, out);
}

/* Small models only: a table of parameters of 256 layers is slow to make. */
static void lay_out(const cad_arch *a)
{
    cad_method m = {.num_labels = a->num_labels, .compute = CAD_F32};
    cad_params *p = NULL;

    if (a->layers > 8) return;
    if (cad_params_open(&p, a, &m)) CAD_ASSERT(cad_reason()[0]);
    cad_params_close(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    cad_arch *a;
    cad_adapter_config c = {0};

    if (!n) return 0;
    cad_clear();
    CAD_ASSERT(!cad_alloc(&a, 1, sizeof *a, "an architecture"));
    if (bytes[0] & 1) {
        fuzz_keep("adapter_config.json", bytes + 1, n - 1);
        if (cad_adapter_config_read(&c, fuzz_room)) CAD_ASSERT(cad_reason()[0]);
        cad_adapter_config_close(&c);
    } else if (cad_arch_parse(a, (const char *)bytes + 1, n - 1, "config.json")) CAD_ASSERT(cad_reason()[0]);
    else lay_out(a);
    cad_free(&a);
    cad_clear();
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
