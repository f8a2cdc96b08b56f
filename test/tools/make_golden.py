#!/usr/bin/env python3
"""Makes reference numbers for another shape, seed and text, in the layout of the golden models: what Transformers and PEFT compute on a tiny random model.
usage: make_golden.py --like GOLDEN/FAMILY --out DIR/FAMILY [--seed 1] [--max-length 80] [--set key=value …]
--like gives the tokenizer and the config.json that --set changes (values are JSON, dots go inside: rope_parameters.rope_theta=1e4).
Needs torch, transformers, peft, safetensors. Then: accept.py --golden DIR --families FAMILY --checks ids,logits,bf16,full,lora,ranks,resume
Not part of the tests: they need no Python.
"""
import argparse, copy, json, math, os, random, shutil

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

p = argparse.ArgumentParser()
p.add_argument('--like', required=True)
p.add_argument('--out', required=True)
p.add_argument('--seed', type=int, default=1)
p.add_argument('--max-length', type=int, default=80)
p.add_argument('--gain', type=float, default=1.0)
p.add_argument('--store', default='float32', choices=['float32', 'bfloat16'])  # dtype of the weights on disk; everything is computed from them in fp32
p.add_argument('--set', nargs='*', default=[])
a = p.parse_args()
torch.manual_seed(a.seed)
torch.set_num_threads(1)
random.seed(a.seed)
shutil.rmtree(a.out, ignore_errors=True)
shutil.copytree(f'{a.like}/model', f'{a.out}/model', ignore=shutil.ignore_patterns('*.safetensors'))
os.makedirs(f'{a.out}/seqcls'), os.makedirs(f'{a.out}/lora'), os.makedirs(f'{a.out}/causal')

raw = json.load(open(f'{a.out}/model/config.json'))
for s in a.set:
    key, value = s.split('=', 1)
    at, *path = key.split('.')[::-1]
    where = raw
    for k in path[::-1]: where = where.setdefault(k, {})
    where[at] = json.loads(value)
json.dump(raw, open(f'{a.out}/model/config.json', 'w'), indent=1)
config = AutoConfig.from_pretrained(f'{a.out}/model')
config._attn_implementation = 'eager'
tok = AutoTokenizer.from_pretrained(f'{a.out}/model')
encoder = raw['model_type'] == 'bert'
has_class = raw['model_type'] != 'llama4_text'  # Llama 4 has none for classification, and PEFT finds all linear layers in such classes only
linears = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']


class Headed(torch.nn.Module):
    """A base model and a linear head on the last token, with the names of a class for classification."""

    def __init__(self, base):
        super().__init__()
        self.model, self.score, self.config = base, torch.nn.Linear(base.config.hidden_size, 2, bias=False), base.config

    def forward(self, input_ids, **_):
        return type('Output', (), {'logits': self.score(self.model(input_ids=input_ids).last_hidden_state[:, -1])})


def classifier(directory):
    if has_class: return AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2, attn_implementation='eager', dtype=torch.float32).eval()
    return Headed(AutoModel.from_pretrained(directory, attn_implementation='eager', dtype=torch.float32)).eval()


def fill(model):
    """Weights of the size that training leaves: outputs neither vanish nor saturate."""
    for name, w in model.named_parameters():
        with torch.no_grad():
            if w.dim() >= 2: w.normal_(0, a.gain * (0.5 if 'embed' in name else 0.9) / math.sqrt(1 if 'embed' in name else w.shape[-1]))
            elif 'norm' in name.lower() and name.endswith('weight'): w.add_(torch.randn_like(w) * 0.1)
            else: w.normal_(0, 0.1)


words = ['A 61-year-old man', 'smokes', '20 cigarettes a day', 'LDL 4.2 mmol/L', 'no chest pain', 'HbA1c 38', 'naïve', 'β-blocker', 'BMI 31.4', "father's infarction at 52", 'Ω', '  two spaces', 'SBP 151 mmHg',
         '漢字', 'statin', '\n', 'walks 3 km', 'eGFR>90', '🙂', 'woman aged 44', 'never smoked', 'HDL 1.1', 'diabetes: type 2', '…', 'Albumin 45.1 g/L;']
records = [dict(input=' '.join(random.choice(words) for _ in range(random.choice([1, 2, 5, 9, 14, 22]))), output=str(random.randint(0, 1))) for _ in range(10)]
records[0]['output'], records[1]['output'] = '0', '1'
ids = [tok(r['input'], truncation=True, max_length=a.max_length)['input_ids'] for r in records]
labels = [int(r['output']) for r in records]
weights = [0.75, 1.625]
json.dump(records, open(f'{a.out}/records.json', 'w'), ensure_ascii=False, indent=1)
json.dump(ids, open(f'{a.out}/ids.json', 'w'))
pad = raw.get('pad_token_id') or 0


def batch():
    n = max(map(len, ids))
    return dict(input_ids=torch.tensor([x + [pad] * (n - len(x)) for x in ids]), attention_mask=torch.tensor([[1] * len(x) + [0] * (n - len(x)) for x in ids]))


def scores(model):
    """Last real token by length: one record at a time, without padding."""
    with torch.no_grad(): return [model(input_ids=torch.tensor([x])).logits[0].float().tolist() for x in ids]


def loss_of(model):
    logits = torch.cat([model(input_ids=torch.tensor([x])).logits for x in ids])
    return torch.nn.functional.cross_entropy(logits.float(), torch.tensor(labels), weight=torch.tensor(weights))


def steps(model, lr, decay):
    from transformers.trainer_pt_utils import get_parameter_names
    decays = set(n for n in get_parameter_names(model, [torch.nn.LayerNorm]) if 'bias' not in n and 'norm' not in n.lower())
    named = [(n, w) for n, w in model.named_parameters() if w.requires_grad]
    opt = torch.optim.AdamW([dict(params=[w for n, w in named if n in decays], weight_decay=decay), dict(params=[w for n, w in named if n not in decays], weight_decay=0.0)], lr=lr)
    out = []
    for k in range(5):
        for g in opt.param_groups: g['lr'] = lr * (5 - k) / 5
        opt.zero_grad()
        loss = loss_of(model)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([w for _, w in named], 1.0)
        opt.step()
        out.append(dict(step=k + 1, loss=loss.item(), grad_norm=norm.item(), learning_rate=lr * (5 - k) / 5))
    return dict(lr=lr, weight_decay=decay, clip=1.0, schedule='linear', steps=out)


G = dict(family=os.path.basename(a.out), max_length=a.max_length, pad_token_id=pad, class_weights=weights, labels=labels)
base = (AutoModel if encoder else AutoModelForCausalLM).from_config(config, attn_implementation='eager').float()
fill(base)
base.to(getattr(torch, a.store)).save_pretrained(f'{a.out}/model')
raw['dtype'] = a.store
json.dump(raw, open(f'{a.out}/model/config.json', 'w'), indent=1)
model = classifier(f'{a.out}/model')
head_name = 'classifier' if encoder else 'score'
with torch.no_grad(): getattr(model, head_name).weight.normal_(0, 0.3)
model.config.pad_token_id = pad
save_file({k: v.contiguous().clone() for k, v in model.state_dict().items() if k.startswith(head_name)}, f'{a.out}/seqcls/head.safetensors', metadata=dict(format='pt'))
start = copy.deepcopy(model.state_dict())
G['seqcls'] = dict(logits=scores(model), loss=loss_of(model).item(), logits_bf16=scores(copy.deepcopy(model).to(torch.bfloat16)))
G['seqcls']['adamw'] = steps(model, 1e-3, 0.01)
G['seqcls']['logits_after'] = scores(model)
save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, f'{a.out}/seqcls/params_after.safetensors', metadata=dict(format='pt'))

model.load_state_dict(start)
peft = get_peft_model(model, LoraConfig(task_type='SEQ_CLS', r=3, lora_alpha=7, lora_dropout=0.0, target_modules='all-linear' if has_class else linears, modules_to_save=[head_name])).eval()
for n, w in peft.named_parameters():
    if 'lora_B' in n:
        with torch.no_grad(): w.normal_(0, 0.1)
peft.save_pretrained(f'{a.out}/lora/adapter')
G['lora'] = dict(r=3, alpha=7, logits=scores(peft), loss=loss_of(peft).item())
G['lora']['adamw'] = steps(peft, 2e-3, 0.0)
G['lora']['logits_after'] = scores(peft)
peft.save_pretrained(f'{a.out}/lora/adapter_after')

if not encoder:
    template = '### Question: {} ### Answer: {} {}'
    qa = [dict(Question=random.choice(words), Complex_CoT=' '.join(random.choice(words) for _ in range(4)), Response=random.choice(words)) for _ in range(5)]
    json.dump(qa, open(f'{a.out}/qa.json', 'w'), ensure_ascii=False)
    lm = AutoModelForCausalLM.from_pretrained(f'{a.out}/model', attn_implementation='eager', dtype=torch.float32).eval()
    nll, tokens = [], 0
    with torch.no_grad():
        for q in qa:
            x = torch.tensor([tok(template.format(q['Question'], q['Complex_CoT'], q['Response']), truncation=True, max_length=a.max_length)['input_ids']])
            nll.append(torch.nn.functional.cross_entropy(lm(input_ids=x).logits[0, :-1].double(), x[0, 1:], reduction='sum').item())
            tokens += x.shape[1] - 1
        prompt = tok('### Question: A 50-year-old has chest pain on effort. What is the next step? ### Answer:')['input_ids']
        x = list(prompt)
        for _ in range(24): x.append(lm(input_ids=torch.tensor([x])).logits[0, -1].argmax().item())
    G['causal'] = dict(template=template, sum_nll=nll, tokens=tokens, prompt_ids=prompt, greedy_ids=x[len(prompt):])
json.dump(G, open(f'{a.out}/golden.json', 'w'), indent=1)
print(a.out, 'loss', G['seqcls']['loss'], 'norms', [round(s['grad_norm'], 3) for s in G['seqcls']['adamw']['steps']])
