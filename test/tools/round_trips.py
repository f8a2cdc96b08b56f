#!/usr/bin/env python3
"""The numbers of test/unit/train/test_round_trips.c: logits of tiny models of every family, and of adapters on them, by Transformers and PEFT.
usage: round_trips.py                  writes "whole" and "adapted" into test/unit/train/data/round_trips.json
       round_trips.py --check DIR      loads what cadtrain wrote (the test run with ROUND_TRIPS_KEEP=DIR) and compares with those numbers
Run by hand, from the root of the repository. Needs torch, transformers, peft.
Weights are multiples of 1/512 by an integer hash of the tensor's name and the element's number: the same here and in the test, and exact in bf16 and F16.
"""
import json, sys

import numpy as np
import peft
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

FILE = 'test/unit/train/data/round_trips.json'
TOLERANCE = 3e-5  # of max(1, |logit|), as everywhere
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)


def bits(name, n):
    """FNV-1a of the name, then splitmix64 of each element's number: its first byte as -128 .. 127."""
    h = 0xcbf29ce484222325
    for c in name.encode(): h = (h ^ c) * 0x100000001b3 % 2**64
    with np.errstate(over='ignore'):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(56)).astype(np.int64) - 128


def values(name, shape, plus_one):
    k = bits(name, int(np.prod(shape)))
    if len(shape) == 1 and name.lower().endswith('norm.weight'): v = (k >> 2) / 128 + (0 if plus_one else 1)
    else: v = k / (128 if len(shape) > 1 and 'embed' in name else 512)
    return torch.tensor(v.reshape(shape), dtype=torch.float32)


class Headed(torch.nn.Module):
    """A family without a class for classification: a head on the last token."""

    def __init__(self, model, hidden):
        super().__init__()
        self.model, self.score, self.config = model, torch.nn.Linear(hidden, 2, bias=False), model.config

    def forward(self, input_ids, **_):
        return type('Output', (), {'logits': self.score(self.model(input_ids=input_ids).last_hidden_state[:, -1])})


def ids(vocab):
    return [[(2 * i * i + 3 * s + 5) % vocab for i in range(n)] for s, n in enumerate((21, 9))]


@torch.no_grad()
def logits(model, config):
    model.eval()
    return [x for row in ids(config['vocab_size']) for x in model(input_ids=torch.tensor([row])).logits[0].tolist()]


def opened(directory, config):
    kind = dict(attn_implementation='eager', dtype=torch.float32)
    if config['model_type'] != 'llama4_text': return AutoModelForSequenceClassification.from_pretrained(directory, **kind)
    import glob, safetensors.torch
    model, info = AutoModel.from_pretrained(directory, output_loading_info=True, **kind)
    assert not info['missing_keys'] and set(info['unexpected_keys']) <= {'score.weight'}, info
    out = Headed(model, config['hidden_size'])
    for f in glob.glob(f'{directory}/*.safetensors'):
        t = safetensors.torch.load_file(f)
        if 'score.weight' in t: out.score.weight.data = t['score.weight'].float()
    return out


@torch.no_grad()
def made(config):
    c = AutoConfig.for_model(**config, num_labels=2)
    c._attn_implementation = 'eager'
    if config['model_type'] == 'llama4_text': model = Headed(AutoModel.from_config(c, attn_implementation='eager'), config['hidden_size'])
    else: model = AutoModelForSequenceClassification.from_config(c, attn_implementation='eager')
    for name, w in model.named_parameters(): w.copy_(values(name, tuple(w.shape), config['model_type'].startswith('gemma')))
    return model.float()


@torch.no_grad()
def adapted(model, config, targets):
    head = 'classifier' if config['model_type'] == 'bert' else 'score'
    model = peft.get_peft_model(model, peft.LoraConfig(task_type='SEQ_CLS', r=2, lora_alpha=3, lora_dropout=0.0, target_modules=targets, modules_to_save=[head]))
    for name, w in model.named_parameters():
        if 'lora_' in name: w.copy_(values(name.replace('base_model.model.', '', 1).replace('.default', ''), tuple(w.shape), False))
    return model


def compare(what, got, want):
    off = max(abs(a - b) / max(1, abs(b)) for a, b in zip(got, want, strict=True))
    print('ok  ' if off <= TOLERANCE else 'NOT ', what, f'{off:.1e}', flush=True)
    return off <= TOLERANCE


cases = json.load(open(FILE))
good = True
for c in cases:
    config = c['config']
    if sys.argv[1:2] == ['--check']:
        d = f'{sys.argv[2]}/{c["family"]}'
        for form in ('base', 'whole', 'half', 'copy'): good &= compare(f'{c["family"]} {form}', logits(opened(f'{d}.{form}', config), config), c['whole'])
        good &= compare(f'{c["family"]} adapter', logits(peft.PeftModel.from_pretrained(opened(f'{d}.whole', config), f'{d}.adapter'), config), c['adapted'])
        good &= compare(f'{c["family"]} merged', logits(opened(f'{d}.merged', config), config), c['adapted'])
    else:
        c['whole'] = [float(f'{x:.9g}') for x in logits(made(config), config)]
        c['adapted'] = [float(f'{x:.9g}') for x in logits(adapted(made(config), config, c['targets']), config)]
        print(c['family'], c['whole'], c['adapted'], flush=True)
if sys.argv[1:2] != ['--check']:
    with open(FILE, 'w') as f: f.write('[\n' + ',\n'.join(json.dumps(c) for c in cases) + '\n]\n')
sys.exit(not good)
