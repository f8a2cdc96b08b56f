#!/usr/bin/env python3
"""Makes test/golden/multimodal: a tiny Llama4ForConditionalGeneration as Transformers saves it, an adapter that cadtrain trained on it, and what Transformers
and PEFT compute from both. usage: make_multimodal.py CADTRAIN (from the repository's root). Not part of the tests: they need no Python."""
import json, math, os, shutil, subprocess, sys

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoTokenizer, Llama4Config, Llama4ForConditionalGeneration

out, adapter, tokenizer = 'test/golden/multimodal', 'test/golden/multimodal/adapter', 'test/golden/full'
torch.manual_seed(1)
torch.set_num_threads(1)
shutil.rmtree(out, ignore_errors=True)
text = dict(vocab_size=424, hidden_size=32, intermediate_size=24, intermediate_size_mlp=40, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16, num_local_experts=4, num_experts_per_tok=1,
            interleave_moe_layer_step=2, attention_chunk_size=16, floor_scale=8, max_position_embeddings=256, pad_token_id=420, bos_token_id=None, eos_token_id=422, no_rope_layers=[1, 0],
            rope_parameters=dict(rope_type='llama3', rope_theta=5e5, factor=16.0, low_freq_factor=1.0, high_freq_factor=1.0, original_max_position_embeddings=64))
vision = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, num_channels=1, intermediate_size=16, vision_output_dim=16, image_size=8, patch_size=4, projector_input_dim=16, projector_output_dim=16)
model = Llama4ForConditionalGeneration(Llama4Config(vision_config=vision, text_config=text, boi_token_index=3, eoi_token_index=4, image_token_index=5))
for name, w in model.named_parameters():
    with torch.no_grad():
        if w.dim() >= 2: w.normal_(0, 0.5 if 'embed' in name else 0.9 / math.sqrt(w.shape[-1]))
model.to(torch.bfloat16).save_pretrained(out)
for f in ('tokenizer.json', 'tokenizer_config.json'): shutil.copy(f'{tokenizer}/{f}', out)

with open(f'{out}/qa.jsonl', 'w') as f:
    for i in range(12): f.write(json.dumps(dict(Question=f'What of pain {i}?', Complex_CoT=f'heart {i % 2}', Response='ECG' if i % 2 else 'rest')) + '\n')
form = '{question}\n{cot} => {response}'
subprocess.run([sys.argv[1], 'train', '--config', 'configs/experiments/llama4_scout_qlora.yaml', '--model-name-or-path', out, '--train-file', f'{out}/qa.jsonl', '--template', form, '--max-length', '96',
                '--set', 'model.load_in_4bit=false', '--no-bf16', '--lora-r', '4', '--lora-dropout', '0', '--learning-rate', '2e-2', '--warmup-steps', '0', '--max-steps', '6', '--evaluation-strategy', 'no',
                '--save-strategy', 'no', '--skip-test', '--set', 'dataset.validation_split=0', '--set', 'task.generate_samples=0', '--output-dir', '/tmp/multimodal_run'], check=True)
os.makedirs(adapter)
for f in ('adapter_config.json', 'adapter_model.safetensors'): shutil.copy(f'/tmp/multimodal_run/{f}', adapter)
shutil.rmtree('/tmp/multimodal_run')

tok = AutoTokenizer.from_pretrained(out)
prompt = 'What of pain 3?\n'
ids = torch.tensor([tok(prompt)['input_ids']])
texts = [form.format(question=r['Question'], cot=r['Complex_CoT'], response=r['Response']) + tok.eos_token for r in map(json.loads, open(f'{out}/qa.jsonl'))]


def numbers(m):
    total = count = 0
    with torch.no_grad():
        for t in texts:
            x = torch.tensor([tok(t)['input_ids']])
            logp = m(input_ids=x).logits[0, :-1].float().log_softmax(-1)
            total += logp.gather(1, x[0, 1:, None]).sum().item()
            count += x.shape[1] - 1
        greedy = m.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1]:].tolist()
        best = m(input_ids=torch.cat([ids, torch.tensor([greedy])], 1)).logits[0, ids.shape[1] - 1:-1].float().topk(2, -1).values
    return greedy, total / count, (best[:, 0] - best[:, 1]).min().item()


base = Llama4ForConditionalGeneration.from_pretrained(out, dtype=torch.float32, attn_implementation='eager').eval()
print('base', *numbers(base))
tuned = PeftModel.from_pretrained(base, adapter).eval()
stored, held = load_file(f'{adapter}/adapter_model.safetensors'), get_peft_model_state_dict(tuned)
assert set(stored) == set(held) and all(torch.equal(stored[k], held[k]) for k in stored), 'names differ'
print('adapter', *numbers(tuned))
for f in ('tokenizer.json', 'tokenizer_config.json'): os.remove(f'{out}/{f}')  # test/golden/full has them
