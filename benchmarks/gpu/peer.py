"""The Python stack on the shapes of gpu.c, one JSON object a line: peer.py DEVICE attention HEAD LENGTH | step SHAPE full|lora|uneven LENGTH SEQUENCES STEPS

attention: torch's scaled_dot_product_attention, forward and backward, two sequences, 4096 columns of queries, a quarter as many of keys.
step: Transformers (and PEFT) with random weights in bf16; full: AdamW whose state is bf16 too, since fp32 state of 7 to 8 billion does not fit;
uneven: padded to the longest record, as its Trainer does. Activations are recomputed when it runs out of memory without."""
import json
import statistics
import sys
import time

import torch

PEAK = 989.4e12


def put(**row):
    print(json.dumps(row), flush=True)


def wait(device):
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def timed(device, call, seconds=2.0):
    call()
    wait(device)
    calls = 1
    while True:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        wait(device)
        took = time.perf_counter() - began
        if took > seconds or calls > 4096:
            return took / calls
        calls *= 2


def attention(device, head, length):
    heads = max(1, (4096 if length > 512 else 128) // head)
    kv = max(1, heads // 4)
    heads = kv * 4 if kv * 4 <= heads else heads
    q, k, v = (torch.randn(2, h, length, head, device=device, dtype=torch.bfloat16, requires_grad=True) for h in (heads, kv, kv))
    out = torch.nn.functional.scaled_dot_product_attention

    def forward():
        return out(q, k, v, is_causal=True, enable_gqa=True)

    def both():
        q.grad = k.grad = v.grad = None
        forward().sum().backward()

    with torch.no_grad():
        one = timed(device, forward)
    two = timed(device, both)
    flop = 2 * 4 * heads * head * length * length / 2
    put(what='attention', head=head, heads=heads, kv_heads=kv, length=length, forward_tflops=1e-12 * flop / one, backward_tflops=1e-12 * 2.5 * flop / max(two - one, 1e-12))


def lengths(how, length, sequences):
    if how != 'uneven':
        return [length] * sequences
    return [max(1, length // 3 + (length - length // 3) * (s * 37 % 101) // 101) for s in range(sequences)]


def build(shape, how, device, recompute):
    from transformers import AutoConfig, AutoModelForSequenceClassification
    config = AutoConfig.for_model(**json.load(open(shape)))
    config._attn_implementation = 'sdpa'
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = AutoModelForSequenceClassification.from_config(config)
    torch.set_default_dtype(torch.float32)
    model.config.use_cache = False
    if how != 'full':
        from peft import LoraConfig, TaskType, get_peft_model
        model = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, r=16, lora_alpha=32, target_modules='all-linear'))
    if recompute:
        model.gradient_checkpointing_enable()
        if how != 'full':
            model.enable_input_require_grads()
    return model.train()


def flop_per_token(model, config, mean):
    frozen = trained = 0
    for name, p in model.named_parameters():
        if p.dim() == 2 and 'embed' not in name and 'score' not in name:
            if p.requires_grad:
                trained += p.numel()
            else:
                frozen += p.numel()
    return 6 * trained + 4 * frozen + 6 * config['num_hidden_layers'] * config['hidden_size'] * mean


def run(device, shape, how, length, sequences, steps, recompute):
    config = json.load(open(shape))
    model = build(shape, how, device, recompute)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=device.startswith('cuda'))
    each = lengths(how, length, sequences)
    ids = torch.full((sequences, max(each)), config['pad_token_id'], device=device)
    mask = torch.zeros_like(ids)
    for s, n in enumerate(each):
        ids[s, :n] = torch.randint(1, config['vocab_size'] - 1, (n,), device=device)
        mask[s, :n] = 1
    labels = torch.arange(sequences, device=device) % 2
    times = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        wait(device)
        times.append(time.perf_counter() - began)
    tokens, seconds = sum(each), statistics.median(times[1:])
    flop = flop_per_token(model, config, tokens / sequences)
    put(what='step', shape=shape.split('/')[-1], how=how, length=length, sequences=sequences, tokens=tokens, recompute=recompute, seconds=seconds, tokens_per_second=tokens / seconds,
        flop_per_token=flop, share_of_peak=flop * tokens / seconds / PEAK, peak_bytes=torch.cuda.max_memory_allocated() if device.startswith('cuda') else None, loss=float(loss.detach()))


def step(device, shape, how, length, sequences, steps):
    try:
        run(device, shape, how, length, sequences, steps, False)
        return
    except torch.cuda.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()
    run(device, shape, how, length, sequences, steps, True)


def versions():
    row = {'what': 'versions', 'python': sys.version.split()[0], 'torch': torch.__version__, 'cuda': torch.version.cuda}
    for name in ('transformers', 'peft'):
        try:
            row[name] = __import__(name).__version__
        except ImportError:
            row[name] = None
    put(**row)


def main():
    device, what, *rest = sys.argv[1:]
    device = device if device.startswith('cuda') else 'cpu'
    if what == 'versions':
        versions()
    elif what == 'attention':
        attention(device, int(rest[0]), int(rest[1]))
    else:
        step(device, rest[0], rest[1], *map(int, rest[2:5]))


main()
