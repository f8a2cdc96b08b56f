"""The Python stack on the same model and records: peer.py trainer|plain --model DIR --train-file FILE --log FILE --method lora|qlora|full --dtype fp32|bf16

trainer: AutoModelForSequenceClassification + PEFT + Trainer with a weighted loss, as the program that cadtrain replaces runs them: batches
padded to their longest record, in the same order as cadtrain's.
plain: the fastest plain loop found: records sorted by length before they are cut into batches, no bookkeeping; bf16 by autocast, the frozen
weights of LoRA held in bf16. qlora: the frozen linear weights in NF4 with nested scales by bitsandbytes, as prepare_model_for_kbit_training leaves it. Preload jemalloc for it (run.sh does).
Each step adds a line to the log: step, loss, tokens (real ones, padding not counted), seconds. benchmarks/measure.c reads them."""
import argparse
import json
import time

import numpy
import torch
from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BitsAndBytesConfig, DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

CLASS_WEIGHTS = [1.0, 2.0]


def options():
    p = argparse.ArgumentParser()
    p.add_argument('how', choices=['trainer', 'plain'])
    p.add_argument('--model', required=True)
    p.add_argument('--train-file', required=True)
    p.add_argument('--log', required=True)
    p.add_argument('--output', default='peer-output')
    p.add_argument('--method', choices=['lora', 'qlora', 'full'], required=True)
    p.add_argument('--dtype', choices=['fp32', 'bf16'], required=True)
    p.add_argument('--weights', choices=['fp32', 'bf16'], help='in which the weights are held (default: see the functions)')
    p.add_argument('--batch', type=int, default=8)
    p.add_argument('--dropout', type=float, default=0.05)
    return p.parse_args()


class Log:
    def __init__(self, path):
        self.file, self.began, self.step = open(path, 'w'), time.perf_counter(), 0

    def add(self, loss, tokens):
        self.step += 1
        row = {'step': self.step, 'loss': loss, 'tokens': tokens, 'seconds': round(time.perf_counter() - self.began, 6)}
        self.file.write(json.dumps(row) + '\n')
        self.file.flush()


def records(o, tokenizer):
    with open(o.train_file, encoding='utf-8') as f:
        rows = [json.loads(line) for line in f]
    order = numpy.random.default_rng(425).permutation(len(rows))
    ids = tokenizer([rows[i]['input'] for i in order], truncation=True, max_length=1024)['input_ids']
    return [{'input_ids': x, 'attention_mask': [1] * len(x), 'labels': int(rows[i]['output'])} for x, i in zip(ids, order)]


def load(o, held):
    torch.manual_seed(42)
    dtype, codes = torch.bfloat16 if held == 'bf16' else torch.float32, {}
    if o.method == 'qlora':
        codes = {'quantization_config': BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type='nf4', bnb_4bit_use_double_quant=True,
                                                           bnb_4bit_compute_dtype=torch.bfloat16 if o.dtype == 'bf16' else torch.float32)}
    model = AutoModelForSequenceClassification.from_pretrained(o.model, num_labels=2, dtype=dtype, **codes)
    if o.method == 'qlora':
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if o.method != 'full':
        model = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, r=16, lora_alpha=32, lora_dropout=o.dropout, target_modules='all-linear', bias='none'))
    return model.train()


def weighted_loss(logits, labels):
    return torch.nn.functional.cross_entropy(logits.float(), labels, weight=torch.tensor(CLASS_WEIGHTS))


class WeightedTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop('labels')
        outputs = model(**inputs)
        loss = weighted_loss(outputs.logits, labels)
        self.seen = (loss.item(), int(inputs['attention_mask'].sum()))
        return (loss, outputs) if return_outputs else loss


class EachStep(TrainerCallback):
    def __init__(self, log):
        self.log, self.trainer = log, None

    def on_step_end(self, args, state, control, **rest):
        self.log.add(*self.trainer.seen)


def run_trainer(o, log):
    """Weights as Transformers 5 loads them: in the checkpoint's bf16 where bf16 is asked for."""
    tokenizer = AutoTokenizer.from_pretrained(o.model)
    model = load(o, o.weights or o.dtype)
    arguments = TrainingArguments(output_dir=o.output, per_device_train_batch_size=o.batch, num_train_epochs=1, learning_rate=1e-4, warmup_steps=0, weight_decay=0.01,
                                  bf16=o.dtype == 'bf16', use_cpu=True, save_strategy='no', report_to='none', logging_steps=10, seed=42, disable_tqdm=True)
    callback = EachStep(log)
    trainer = WeightedTrainer(model=model, args=arguments, train_dataset=records(o, tokenizer), data_collator=DataCollatorWithPadding(tokenizer), callbacks=[callback])
    callback.trainer = trainer
    trainer.train()


def buckets(rows, batch):
    rows = sorted(rows, key=lambda r: len(r['input_ids']))
    cut = [rows[i:i + batch] for i in range(0, len(rows), batch)]
    return [cut[i] for i in numpy.random.default_rng(42).permutation(len(cut))]


def run_plain(o, log):
    """LoRA holds its frozen weights in bf16 where bf16 is asked for; full training needs fp32 master weights."""
    tokenizer = AutoTokenizer.from_pretrained(o.model)
    model = load(o, o.weights or ('bf16' if o.dtype == 'bf16' and o.method != 'full' else 'fp32'))
    collate = DataCollatorWithPadding(tokenizer)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=True)
    for rows in buckets(records(o, tokenizer), o.batch):
        batch = collate(rows)
        with torch.autocast('cpu', torch.bfloat16, enabled=o.dtype == 'bf16'):
            logits = model(input_ids=batch['input_ids'], attention_mask=batch['attention_mask'], use_cache=False).logits
        loss = weighted_loss(logits, batch['labels'])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        log.add(loss.item(), int(batch['attention_mask'].sum()))


def main():
    o = options()
    log = Log(o.log)
    (run_trainer if o.how == 'trainer' else run_plain)(o, log)


if __name__ == '__main__':
    main()
