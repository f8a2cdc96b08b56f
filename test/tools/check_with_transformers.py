#!/usr/bin/env python3
"""Do Transformers and PEFT read what cadtrain writes, and compute the same? Trains tiny models with cadtrain and loads the results in the real libraries.
usage: check_with_transformers.py [--bin build/cadtrain] [--golden ../shared/golden] [--families qwen2,llama31,…] [--methods qwen2,bert,…] [--keep DIR] [--vectors test/golden]
Run by hand, from the root of the repository. Needs torch, transformers, peft, safetensors and h5py. Last line: N passed, N failed.

For each family: full and LoRA, fp32 and bf16, three steps of two ranks; then
  OUT, OUT/checkpoint-2, the merged export     AutoModelForSequenceClassification.from_pretrained, alone and as the base of PeftModel.from_pretrained
  logits                                       of `cadtrain eval` beside theirs, fp32, records one by one and in a padded batch: 3e-5 x max(1, |logit|)
                                               (both in bf16: cadtrain no further from fp32 than 1.5 x what Transformers is)
  ids                                          AutoTokenizer.from_pretrained(OUT) beside `cadtrain tokenize` with OUT
  state.h5                                     h5py: tensors under the model's names, in its shapes; attributes
  trainer_state.json                           TrainerState.load_from_json

--methods: for each family adapters of other kinds that PEFT made (DoRA, ranks by pattern, on the table of words, …): logits of both, and three steps of
both on one batch: loss, norm of the gradient, and the tensors afterwards; then the same kinds by options of cadtrain: trainable parameters, names, loss, and PEFT reading them.
A family without a class for classification (Llama 4) is loaded as its base model, and the head is applied to the last token.

--vectors DIR does only this: it writes the small files that test/cli/stored_vectors.sh needs, what cadtrain trained and these libraries' logits of it.
"""
import argparse, json, os, re, shutil, subprocess, sys, tempfile

P = argparse.ArgumentParser(usage=__doc__)
P.add_argument('--bin', default='build/cadtrain')
P.add_argument('--golden', default='../shared/golden')
P.add_argument('--families', default='qwen2,llama31')
P.add_argument('--methods', default='')
P.add_argument('--keep', default='')
P.add_argument('--vectors', default='')
A = P.parse_args()

import h5py
import torch
import transformers
import peft
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.trainer_callback import TrainerState

BIN = os.path.abspath(A.bin)
GOLDEN = os.path.abspath(A.golden)
TMP = A.keep or tempfile.mkdtemp(prefix='check.')
ENV = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1', OMPI_MCA_rmaps_base_oversubscribe='1', OMP_NUM_THREADS='1')
MAX_LENGTH = 96
FP32 = 3e-5
good = bad = 0
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)


def say(ok, name, what):
    global good, bad
    good, bad = good + bool(ok), bad + (not ok)
    print(('ok   ' if ok else 'NOT  ') + name + '  ' + what, flush=True)


def run(*args, ranks=1, stdin=None):
    cmd = (['mpirun', '-np', str(ranks)] if ranks > 1 else []) + [BIN] + [str(a) for a in args]
    r = subprocess.run(cmd, input=stdin, env=ENV, capture_output=True, text=True, timeout=300)
    if r.returncode:
        raise SystemExit('exit %d: %s\n%s' % (r.returncode, ' '.join(cmd), r.stderr))
    return r.stdout


def classifier(family):
    """The family's tiny base model with the reference head, as a sequence-classification directory."""
    d, src = f'{TMP}/{family}', f'{GOLDEN}/{family}'
    shutil.copytree(f'{src}/model', d)
    os.chmod(d, 0o755)
    for f in os.listdir(d):
        os.chmod(f'{d}/{f}', 0o644)
    save_file({**load_file(f'{d}/model.safetensors'), **load_file(f'{src}/seqcls/head.safetensors')}, f'{d}/model.safetensors', metadata={'format': 'pt'})
    c = json.load(open(f'{d}/config.json'))
    c.update(num_labels=2, id2label={'0': 'LABEL_0', '1': 'LABEL_1'}, label2id={'LABEL_0': 0, 'LABEL_1': 1})
    c['architectures'] = [re.sub('(ForCausalLM|Model)$', 'ForSequenceClassification', c['architectures'][0])]
    json.dump(c, open(f'{d}/config.json', 'w'), indent=2)
    return d


def train(family, base, name, *extra):
    out = f'{TMP}/{family}.{name}'
    run('train', '--model-name-or-path', base, '--train-file', f'{GOLDEN}/{family}/records.json', '--validation-split', 0, '--max-length', MAX_LENGTH,
        '--per-device-train-batch-size', 3, '--max-steps', 3, '--learning-rate', 3e-3, '--logging-steps', 1, '--evaluation-strategy', 'no',
        '--save-strategy', 'steps', '--save-steps', 2, '--skip-test', '--output-dir', out, *extra, ranks=2)
    return out


def cadtrain_logits(family, checkpoint, base=None, *extra):
    out = f'{TMP}/pred'
    shutil.rmtree(out, ignore_errors=True)
    run('eval', '--checkpoint', checkpoint, '--test-file', f'{GOLDEN}/{family}/records.json', '--max-length', MAX_LENGTH, '--prediction-output-dir', out,
        *(['--model-name-or-path', base] if base else []), *extra)
    rows = [json.loads(l) for l in open(f'{out}/predictions.jsonl')]
    return torch.tensor([r['logits'] for r in rows], dtype=torch.float64)


def texts(family):
    return [r['input'] for r in json.load(open(f'{GOLDEN}/{family}/records.json'))]


@torch.no_grad()
def library_logits(model, directory, family, together=False):
    model.eval()
    t = AutoTokenizer.from_pretrained(directory)
    t.padding_side = 'right'
    if together:
        batch = t(texts(family), truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors='pt')
        return model(**{k: batch[k] for k in ('input_ids', 'attention_mask')}).logits.double()
    one = [model(input_ids=torch.tensor([t(x, truncation=True, max_length=MAX_LENGTH)['input_ids']])).logits[0].double() for x in texts(family)]
    return torch.stack(one)


class Headed(torch.nn.Module):
    """A base model and a linear head on the last token."""

    def __init__(self, base, head):
        super().__init__()
        self.base, self.head = base, head

    def forward(self, input_ids):
        h = self.base(input_ids=input_ids).last_hidden_state[:, -1] @ self.head.T
        return type('Output', (), {'logits': h})


def without_class(directory, dtype):
    model, info = transformers.AutoModel.from_pretrained(directory, dtype=dtype, attn_implementation='eager', output_loading_info=True)
    left = [k for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys') for k in info[kind] if k != 'score.weight']
    tensors = {}
    for f in os.listdir(directory):
        if f.endswith('.safetensors'):
            tensors.update(load_file(f'{directory}/{f}'))
    return Headed(model, tensors['score.weight'].to(dtype)), left


def head_of(base):
    return 'classifier' if json.load(open(f'{base}/config.json'))['model_type'] == 'bert' else 'score'


def has_class(directory):
    return json.load(open(f'{directory}/config.json'))['model_type'] != 'llama4_text'


def load(directory, dtype=torch.float32):
    if not has_class(directory):
        return without_class(directory, dtype)
    model, info = AutoModelForSequenceClassification.from_pretrained(directory, dtype=dtype, attn_implementation='eager', output_loading_info=True)
    left = [k for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys') for k in info[kind]]
    return model, left


def compare(name, got, want):
    e = ((got - want).abs() / want.abs().clamp(min=1)).max().item()
    say(e <= FP32, name, f'logits off by {e:.1e} ({FP32:.0e})')


def check_full(family, name, directory):
    model, left = load(directory)
    say(not left, f'{name} keys', f'missing, unexpected or mismatched: {left[:4]}' if left else 'every tensor is taken')
    want = library_logits(model, directory, family)
    compare(f'{name} one by one', cadtrain_logits(family, directory), want)
    if has_class(directory):
        compare(f'{name} padded batch', cadtrain_logits(family, directory), library_logits(model, directory, family, True))
    return want


def check_adapter(family, name, base, directory):
    tensors = load_file(f'{directory}/adapter_model.safetensors')
    head = f'base_model.model.{head_of(base)}.weight'
    say(head in tensors, f'{name} head', head)
    model = PeftModel.from_pretrained(load(base)[0], directory)
    taken = peft.get_peft_model_state_dict(model)
    say(set(taken) == set(tensors) and all(torch.equal(taken[k].float(), tensors[k].float()) for k in taken), f'{name} keys', f'{len(taken)} tensors in PEFT, {len(tensors)} in the file, equal')
    want = library_logits(model, directory, family)
    compare(f'{name} one by one', cadtrain_logits(family, directory, base), want)
    return want


def check_ids(family, name, directory):
    t = AutoTokenizer.from_pretrained(directory)
    lines = run('tokenize', '--tokenizer-name-or-path', directory, stdin=''.join(json.dumps({'text': x}) + '\n' for x in texts(family))).splitlines()
    n = sum(json.loads(l)['ids'] == t(x)['input_ids'] for l, x in zip(lines, texts(family)))
    say(n == len(lines) == len(texts(family)), f'{name} ids', f'{n} of {len(lines)} records equal')


def check_state(name, directory):
    """state.h5 holds the trained tensors of the same folder, whole and under their names, and their moments."""
    whole = os.path.exists(f'{directory}/model.safetensors')
    tensors = load_file(f'{directory}/{"model" if whole else "adapter_model"}.safetensors')
    wrong = []
    with h5py.File(f'{directory}/state.h5') as h:
        if set(h['model']) != set(tensors) or set(h['optimizer']) != set(tensors):
            wrong.append('names')
        for k, v in tensors.items():
            stored = torch.from_numpy(h['model'][k][()])
            if stored.shape != v.shape or not torch.equal(stored.to(v.dtype), v):
                wrong.append(k)
            for m in ('exp_avg', 'exp_avg_sq'):
                if h['optimizer'][k][m].shape != tuple(v.shape):
                    wrong.append(f'{k}/{m}')
        attributes = {k: (v.decode() if isinstance(v, bytes) else v) for k, v in h.attrs.items()}
        for k in ('format', 'step', 'epoch', 'atoms_per_step', 'data_position', 'seed', 'world_size', 'zero_stage', 'config_sha256', 'data_sha256'):
            if k not in attributes:
                wrong.append(f'attribute {k}')
    ok = not wrong and attributes['step'] == 2 and attributes['world_size'] == 2
    say(ok, f'{name} state.h5', ', '.join(wrong[:4]) or f'{len(tensors)} tensors with moments, step {attributes["step"]}, {attributes["world_size"]} ranks')


def check_trainer_state(name, directory):
    s = TrainerState.load_from_json(f'{directory}/trainer_state.json')
    say(s.global_step == 3 and [h['step'] for h in s.log_history if 'loss' in h] == [1, 2, 3], f'{name} trainer_state.json', f'step {s.global_step}, {len(s.log_history)} rows')


def check_bf16(family, name, out, base=None):
    """Both compute in bf16, where roundings fall differently: cadtrain is no further from fp32 than 1.5 times what Transformers is."""
    exact, half = ((PeftModel.from_pretrained(load(base, dtype)[0], out) if base else load(out, dtype)[0]) for dtype in (torch.float32, torch.bfloat16))
    want, theirs = library_logits(exact, out, family), library_logits(half, out, family)
    theirs, ours = ((x - want).abs().max().item() for x in (theirs, cadtrain_logits(family, out, base, '--bf16')))
    say(ours <= 1.5 * theirs, f'{name} in bf16', f'{ours:.1e} from fp32, Transformers {theirs:.1e}')


def check_family(family):
    base = classifier(family)
    for name, flags in (('full', []), ('full bf16', ['--bf16'])):
        out = train(family, base, name.replace(' ', '_'), *flags)
        check_full(family, f'{family} {name}', out)
        check_full(family, f'{family} {name} checkpoint-2', f'{out}/checkpoint-2')
        check_ids(family, f'{family} {name}', out)
        check_state(f'{family} {name} checkpoint-2', f'{out}/checkpoint-2')
        check_trainer_state(f'{family} {name}', out)
        if flags:
            check_bf16(family, f'{family} {name}', out)
    if not has_class(base):
        return
    for name, flags in (('lora', []), ('lora bf16', ['--bf16'])):
        out = train(family, base, name.replace(' ', '_'), '--lora-enable', 'true', '--lora-r', 4, '--lora-alpha', 8, *flags)
        merged = f'{TMP}/{family}.{name.replace(" ", "_")}.merged'
        want = check_adapter(family, f'{family} {name}', base, out)
        check_adapter(family, f'{family} {name} checkpoint-2', base, f'{out}/checkpoint-2')
        check_ids(family, f'{family} {name}', out)
        check_state(f'{family} {name} checkpoint-2', f'{out}/checkpoint-2')
        run('export', '--checkpoint', out, '--output', merged, '--merge')
        check_full(family, f'{family} {name} merged', merged)
        compare(f'{family} {name} merged beside its adapter', library_logits(load(merged)[0], merged, family), want)
        if flags:
            check_bf16(family, f'{family} {name}', out, base)
    headless(family)


def kinds_of_adapters(family):
    words = 'word_embeddings' if family == 'bert' else 'embed_tokens'
    some = ['query', 'value', 'intermediate.dense'] if family == 'bert' else ['q_proj', 'v_proj', 'down_proj']
    name = 'encoder.layer.0.attention.self.query' if family == 'bert' else 'layers.0.self_attn.q_proj'
    yield 'dora', dict(use_dora=True, target_modules='all-linear')
    yield 'rslora bias all', dict(use_rslora=True, bias='all', target_modules=some)
    yield 'bias lora_only', dict(bias='lora_only', target_modules=some)
    yield 'patterns', dict(target_modules=some, rank_pattern={name: 5, some[1]: 2}, alpha_pattern={some[2]: 7}, exclude_modules=['1.' + some[1], '1.self_attn.' + some[1]])
    yield 'some layers', dict(target_modules=some, layers_to_transform=[1])
    yield 'words', dict(target_modules=some + [words])
    yield 'regex', dict(target_modules=r'.*\.(0|1)\..*(q_proj|query|up_proj)', exclude_modules=r'.*\.1\..*q_proj')


def moved_alike(name, got, want, scale):
    want = {k: v for k, v in want.items() if not k.endswith('.base_layer.weight') and '.original_module.' not in k and '.modules_to_save.' not in k}  # what PEFT keeps beside what is trained
    # without rotation a key's bias has no gradient: Adam moves it by the noise of either side
    idle = {k for k in want if k.endswith('attention.self.key.bias')}
    worst = max((((got[k].float() - want[k].float()) ** 2).mean().sqrt().item() / scale, k) for k in want if k not in idle)
    say(set(got) == set(want) and worst[0] <= 0.02, f'{name} tensors afterwards', f'{worst[1]}: {worst[0]:.1e} of the distance moved (0.02), {len(got)} and {len(want)} tensors')


def steps_of_torch(model, family, directory, rows=None):
    t = AutoTokenizer.from_pretrained(directory)
    rows = json.load(open(rows or f'{GOLDEN}/{family}/records.json'))
    ids = [torch.tensor([t(r['input'], truncation=True, max_length=MAX_LENGTH)['input_ids']]) for r in rows]
    labels = torch.tensor([int(r['output']) for r in rows])
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, weight_decay=0)
    log = []
    for step in range(3):
        logits = torch.cat([model(input_ids=x).logits for x in ids])
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0).item()
        for g in optimizer.param_groups:
            g['lr'] = 3e-3 * (1 - step / 3)
        optimizer.step()
        log.append((loss.item(), norm))
    return log


def check_methods(family):
    base = classifier(family) if not os.path.isdir(f'{TMP}/{family}') else f'{TMP}/{family}'
    for kind, flags in kinds_of_adapters(family):
        torch.manual_seed(5)
        name, start, out = f'{family} {kind}', f'{TMP}/{family}.{kind.replace(" ", "_")}.start', f'{TMP}/{family}.{kind.replace(" ", "_")}.out'
        model = peft.get_peft_model(load(base)[0], peft.LoraConfig(**{'r': 4, 'lora_alpha': 8, 'lora_dropout': 0.0, 'task_type': 'SEQ_CLS', **flags}))
        for k, w in model.named_parameters():
            if 'lora_' in k and w.requires_grad:
                with torch.no_grad():
                    w.add_(torch.randn_like(w) * (0.05 * w.abs().mean() if 'magnitude' in k else 0.05))
        model.save_pretrained(start)
        want = library_logits(model, base, family)
        compare(f'{name} logits', cadtrain_logits(family, start, base), want)
        log = steps_of_torch(model, family, base)
        run('train', '--model-name-or-path', base, '--adapter-name-or-path', start, '--lora-enable', 'true', '--lora-dropout', 0, '--train-file', f'{GOLDEN}/{family}/records.json', '--validation-split', 0,
            '--max-length', MAX_LENGTH, '--per-device-train-batch-size', 12, '--max-steps', 3, '--learning-rate', 3e-3, '--weight-decay', 0, '--lr-scheduler-type', 'linear', '--warmup-ratio', 0,
            '--logging-steps', 1, '--evaluation-strategy', 'no', '--save-strategy', 'no', '--skip-test', '--output-dir', out)
        ours = [(r['loss'], r['grad_norm']) for r in map(json.loads, open(f'{out}/log.jsonl')) if 'loss' in r]
        e = max(abs(a[0] - b[0]) / max(1, abs(b[0])) for a, b in zip(ours, log))
        n = max(abs(a[1] - b[1]) / b[1] for a, b in zip(ours, log))
        say(len(ours) == 3 and e <= 2e-5 and n <= 2e-4, f'{name} steps', f'loss off by {e:.1e} (2e-5), norm of the gradient by {n:.1e} (2e-4)')
        moved_alike(name, load_file(f'{out}/adapter_model.safetensors'), {k: v.contiguous() for k, v in peft.get_peft_model_state_dict(model).items()}, 3e-3 * 3)
        again = PeftModel.from_pretrained(load(base)[0], out)
        compare(f'{name} read back by PEFT', cadtrain_logits(family, out, base), library_logits(again, base, family))
        merged = f'{out}.merged'
        run('export', '--checkpoint', out, '--output', merged, '--merge', '--model-name-or-path', base)
        compare(f'{name} merged', library_logits(load(merged)[0], merged, family), library_logits(again, base, family))


def as_flags(r, flags):
    yield from ('--lora-enable', 'true', '--lora-r', r, '--lora-alpha', 2 * r, '--lora-dropout', 0)
    names = {'use_dora': '--use-dora', 'use_rslora': '--use-rslora', 'bias': '--lora-bias'}
    for k, v in flags.items():
        yield names.get(k, '--' + k.replace('_', '-'))
        yield v if isinstance(v, str) else json.dumps(v)


def check_options(family, base, rows):
    """The same kinds asked for by options: what PEFT would train, its first loss and norm, and the directory that PEFT takes."""
    for kind, flags in kinds_of_adapters(family):
        name, out = f'{family} {kind} by options', f'{TMP}/{family}.{kind.replace(" ", "_")}.options'
        config = peft.LoraConfig(**{'r': 4, 'lora_alpha': 8, 'lora_dropout': 0.0, 'task_type': 'SEQ_CLS', **flags})
        model = peft.get_peft_model(load(base)[0], config)
        want = {k: tuple(v.shape) for k, v in peft.get_peft_model_state_dict(model).items() if not k.endswith('.base_layer.weight') and '.original_module.' not in k and '.modules_to_save.' not in k}
        common = ['--model-name-or-path', base, *as_flags(4, flags), '--train-file', rows, '--validation-split', 0, '--max-length', MAX_LENGTH, '--per-device-train-batch-size', 12,
                  '--max-steps', 2, '--learning-rate', 3e-3, '--weight-decay', 0, '--warmup-ratio', 0, '--evaluation-strategy', 'no']
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        planned = json.loads(run('plan', '--json', *common, '--output-dir', out))['trainable']
        run('train', *common, '--logging-steps', 1, '--save-strategy', 'steps', '--save-steps', 1, '--skip-test', '--output-dir', out)
        got = load_file(f'{out}/adapter_model.safetensors')
        say({k: tuple(v.shape) for k, v in got.items()} == want and planned == count, f'{name} tensors', f'{planned} and {count} trainable, {len(got)} and {len(want)} tensors')
        one = [r['loss'] for r in map(json.loads, open(f'{out}/log.jsonl')) if 'loss' in r][0]
        first = steps_of_torch(model, family, base, rows)[0][0]
        say(abs(one - first) <= 2e-5 * max(1, first), f'{name} loss', f'{one:.7f} and {first:.7f}')
        again = PeftModel.from_pretrained(load(base)[0], out)
        compare(f'{name} read by PEFT', cadtrain_logits(family, out, base), library_logits(again, base, family))
        run('train', *common, '--logging-steps', 1, '--save-strategy', 'steps', '--save-steps', 1, '--skip-test', '--output-dir', out, '--resume-from-checkpoint', f'{out}/checkpoint-1', '--overwrite-output-dir', 'true')
        back = load_file(f'{out}/adapter_model.safetensors')
        say(all(torch.equal(v, back[k]) for k, v in got.items()), f'{name} resumed', 'equal bits')


def headless(family):
    """LoRA on a base model without a head, as it comes from a hub: the drawn head is trained, saved, and found again."""
    base = f'{GOLDEN}/{family}/model'
    out = train(family, base, 'headless', '--lora-enable', 'true', '--lora-r', 4)
    model = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, dtype=torch.float32, attn_implementation='eager'), out)
    compare(f'{family} lora on a base without a head', cadtrain_logits(family, out, base), library_logits(model, out, family))


def tiny_base():
    """Random weights of a few thousand parameters with the tokenizer of the qwen2 reference model."""
    d = f'{TMP}/tiny'
    t = AutoTokenizer.from_pretrained(f'{GOLDEN}/qwen2/model')
    torch.manual_seed(7)
    c = transformers.Qwen2Config(vocab_size=424, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=256,
                                 initializer_range=0.3, tie_word_embeddings=True, pad_token_id=t.pad_token_id, eos_token_id=t.eos_token_id, bos_token_id=None, num_labels=2)
    m = transformers.Qwen2ForSequenceClassification(c)
    for name, w in m.named_parameters():
        if name.endswith('bias'):
            torch.nn.init.normal_(w, std=0.3)
    m.save_pretrained(d)
    for f in ('tokenizer.json', 'tokenizer_config.json'):
        shutil.copy(f'{GOLDEN}/qwen2/model/{f}', d)
    return d


def put_lines(path, rows):
    with open(path, 'w') as h:
        h.writelines(' '.join(f'{v:.9g}' for v in row) + '\n' for row in rows.tolist())


def write_vectors(to):
    """What cadtrain trained (full, then an adapter on it) and what Transformers and PEFT compute from those files."""
    family = 'qwen2'
    full = train(family, tiny_base(), 'tiny_full')
    shutil.rmtree(to, ignore_errors=True)
    for name in ('full', 'lora'):
        os.makedirs(f'{to}/{name}')
    for f in ('config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'):
        shutil.copy(f'{full}/{f}', f'{to}/full')
    lora = train(family, f'{to}/full', 'tiny_lora', '--lora-enable', 'true', '--lora-r', 4, '--lora-alpha', 8)
    for f in ('adapter_config.json', 'adapter_model.safetensors'):
        shutil.copy(f'{lora}/{f}', f'{to}/lora')
    shutil.copy(f'{GOLDEN}/{family}/records.json', to)
    base = load(f'{to}/full')[0]
    put_lines(f'{to}/full.logits', library_logits(base, f'{to}/full', family))
    put_lines(f'{to}/lora.logits', library_logits(PeftModel.from_pretrained(base, f'{to}/lora'), f'{to}/full', family))
    t = AutoTokenizer.from_pretrained(f'{to}/full')
    with open(f'{to}/ids.jsonl', 'w') as h:
        h.writelines(json.dumps({'ids': t(x)['input_ids']}) + '\n' for x in texts(family))
    with open(f'{to}/README.md', 'w') as h:
        h.write(f"""# Stored vectors

`full/`, `lora/`: what cadtrain wrote after three steps (a Qwen2 of a few thousand parameters; an adapter on it). `full.logits`, `lora.logits`,
`ids.jsonl`: what Transformers and PEFT make of those files and of `records.json`, cut at {MAX_LENGTH} tokens, in fp32, one record at a time.
Written by `test/tools/check_with_transformers.py --vectors test/golden` with torch {torch.__version__.split("+")[0]}, transformers {transformers.__version__}, peft {peft.__version__}.
`test/cli/stored_vectors.sh` compares.
""")
    for root, _, files in os.walk(to):
        for f in files:
            os.chmod(f'{root}/{f}', 0o644)


if A.vectors:
    write_vectors(A.vectors)
    A.families = ''
for family in filter(None, A.families.split(',')):
    check_family(family)
for family in filter(None, A.methods.split(',')):
    check_methods(family)
    check_options(family, f'{TMP}/{family}', f'{GOLDEN}/{family}/records.json')
if not A.keep:
    shutil.rmtree(TMP, ignore_errors=True)
print(f'torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, h5py {h5py.__version__}')
print(f'{good} passed, {bad} failed')
sys.exit(1 if bad or (not good and not A.vectors) else 0)
