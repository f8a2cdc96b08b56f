"""Transformers' generate beside cadtrain's, on the same random model and prompt.
generate_peer.py make DIR 135m|0.5b TOKENIZER_DIR | generate_peer.py run DIR PROMPT TOKENS bf16|fp32: prints tokens per second and the ids, as JSON."""
import json
import os
import shutil
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

SHAPES = {
    '135m': (LlamaForCausalLM, LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True)),
    '0.5b': (Qwen2ForCausalLM, Qwen2Config(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768, tie_word_embeddings=True)),
}


def make(directory, shape, tokenizer):
    torch.manual_seed(1)
    kind, config = SHAPES[shape]
    config.eos_token_id = config.bos_token_id = config.pad_token_id = None
    kind(config).to(torch.bfloat16).save_pretrained(directory)
    for name in ('tokenizer.json', 'tokenizer_config.json'):
        shutil.copy(os.path.join(tokenizer, name), directory)


def run(directory, prompt, tokens, dtype):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16 if dtype == 'bf16' else torch.float32).eval()
    ids = torch.tensor([tokenizer(prompt)['input_ids']])
    with torch.inference_mode():
        model.generate(ids, max_new_tokens=4, do_sample=False)
        began = time.perf_counter()
        out = model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        seconds = time.perf_counter() - began
    new = out[0, ids.shape[1]:].tolist()
    print(json.dumps({'tokens_per_second': round(len(new) / seconds, 2), 'ids': new}))


if __name__ == '__main__':
    if sys.argv[1] == 'make':
        make(*sys.argv[2:5])
    else:
        run(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
