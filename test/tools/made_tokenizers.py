"""Writes test/unit/text/data/NAME/{tokenizer.model or vocab.txt, tokenizer_config.json, vectors.jsonl}: folders without a tokenizer.json, and what
Transformers (5.23, with sentencepiece 0.2 and tokenizers 0.23) makes of some texts with them. made_tokenizers.py FOLDER; the output is committed."""
import json
import os
import random
import sys
import sentencepiece
from transformers import AutoTokenizer

CORPUS = ['The patient is a 63-year-old male; BMI 27.4 kg/m2, systolic 142 mmHg.', "She's had no chest pain; we'll see whether it's angina.", 'aaaa aaaaa banana',
          'Family history: father died of a heart attack at 58.', 'HDL 1.2 mmol/L, LDL 3.9 mmol/L Yes No Yes No', 'años café naïve', '  two  spaces   three'] * 3
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] + list('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?()/-') + \
        ['##' + c for c in 'abcdefghijklmnopqrstuvwxyz0123456789'] + ['the', 'patient', 'heart', 'The', 'male', '##tem', '##ing', 'chest', 'pain', 'é', '日', '##é', 'caf', 'is', 'a', 'no']
TOKEN = {'lstrip': False, 'rstrip': False, 'normalized': False, 'single_word': False, 'special': True}


def model(folder, kind='bpe', fallback=True, rule='identity', **options):
    with open(os.path.join(folder, 'corpus'), 'w', encoding='utf-8') as f:
        f.write('\n'.join(CORPUS))
    sentencepiece.SentencePieceTrainer.train(input=os.path.join(folder, 'corpus'), model_prefix=os.path.join(folder, 'tokenizer'), model_type=kind, vocab_size=420, byte_fallback=fallback,
                                             normalization_rule_name=rule, remove_extra_whitespaces=False, minloglevel=2, hard_vocab_limit=False, **options)
    for name in ('corpus', 'tokenizer.vocab'):
        os.remove(os.path.join(folder, name))


def folders(root):
    def folder(name, config):
        path = os.path.join(root, name)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, 'tokenizer_config.json'), 'w', encoding='utf-8') as f:
            json.dump(config, f, indent=1)
        return path

    named = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>'}
    p = folder('model_first', {'tokenizer_class': 'LlamaTokenizer', 'add_bos_token': True, 'add_eos_token': False, 'legacy': False, **named})
    model(p, add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    yield p
    p = folder('model_always', {'tokenizer_class': 'LlamaTokenizer', 'add_bos_token': True, 'add_eos_token': True, 'legacy': True, 'pad_token': '[PAD]', **named,
                                'added_tokens_decoder': {'0': {'content': '<unk>', **TOKEN}, '1': {'content': '<s>', **TOKEN}, '2': {'content': '</s>', **TOKEN, 'rstrip': True}}})
    model(p, add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, user_defined_symbols=['heart attack', '@@'])
    yield p
    p = folder('model_plain', {'tokenizer_class': 'GemmaTokenizer', 'add_bos_token': True, 'bos_token': '<bos>', 'eos_token': '<eos>', 'pad_token': '<pad>', 'unk_token': '<unk>'})
    model(p, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, bos_piece='<bos>', eos_piece='<eos>', user_defined_symbols=['<start_of_turn>', '▁▁', '▁▁▁', '\t'])
    yield p
    p = folder('model_unigram', {})
    model(p, 'unigram', False, 'nmt_nfkc', user_defined_symbols=['heart attack', '@@'])
    yield p
    p = folder('model_unigram_bytes', {})
    model(p, 'unigram', character_coverage=0.98)
    yield p
    for name, lower in (('words_cased', False), ('words_uncased', True)):
        p = folder(name, {'tokenizer_class': 'BertTokenizer', 'do_lower_case': lower})
        with open(os.path.join(p, 'vocab.txt'), 'w', encoding='utf-8', newline='') as f:
            f.write('\n'.join(WORDS) + ('\n' if lower else ''))
        yield p


def text(r):
    parts = [lambda: r.choice(CORPUS), lambda: r.choice(['<s>', '</s>', '<unk>', '<bos>', '[CLS]', '[MASK]', '[PAD]', 'heart attack', '@@', '<start_of_turn>', '<0x41>']),
             lambda: r.choice([' ', '  ', '   ', '\n', '\t', '\u00a0', '\r\n', '\u3000']),
             lambda: ''.join(chr(r.choice([r.randint(32, 126), r.randint(160, 0x24F), r.randint(0x300, 0x36F), r.randint(0x400, 0x4FF), r.randint(0x3040, 0x30FF),
                                           r.randint(0x4E00, 0x4F00), r.randint(0x5D0, 0x5EA), r.randint(0x1F300, 0x1F64F)])) for _ in range(r.randint(1, 8))),
             lambda: r.choice('abXYZ') * r.randint(1, 50), lambda: str(r.randint(0, 10**6)), lambda: r.choice(["'s", '\0', '▁', 'e\u0301', '\u200d', '\ufffd'])]
    return ''.join(r.choice(parts)() + r.choice(['', ' ']) for _ in range(r.randint(0, 7)))


def main():
    for path in folders(sys.argv[1]):
        t = AutoTokenizer.from_pretrained(path)
        r = random.Random(os.path.basename(path))
        with open(os.path.join(path, 'vectors.jsonl'), 'w', encoding='utf-8') as f:
            for _ in range(50):
                s = text(r)
                ids = t(s)['input_ids']
                f.write(json.dumps({'text': s, 'ids': ids, 'ids_plain': t(s, add_special_tokens=False)['input_ids'], 'decoded': t.backend_tokenizer.decode(ids)}, ensure_ascii=False) + '\n')


main()
