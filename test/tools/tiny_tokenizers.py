"""Writes test/unit/text/data/NAME/{tokenizer.json,vectors.jsonl}: small tokenizers with every part that is implemented, and what the
`tokenizers` library (0.23) makes of some texts. tiny_tokenizers.py FOLDER; needs the Python package `tokenizers`; the output is committed."""
import json
import os
import random
import sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ['The patient is a 63-year-old male; BMI 27.4 kg/m², systolic 142 mmHg.', "She's had no chest pain; we'll see whether it's angina.", 'aaaa aaaaa banana',
          'Family history: father died of a heart attack at 58.', 'HDL 1.2 mmol/L, LDL 3.9 mmol/L\n\nYes No Yes No', 'años café naïve 日本語 тест', '  two  spaces\ttab'] * 3
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = [f'<0x{i:02X}>' for i in range(256)]
FLAGS = [AddedToken('<s>', special=True, normalized=False), AddedToken('</s>', special=True, normalized=False), AddedToken('[left]', lstrip=True, normalized=False),
         AddedToken('[right]', rstrip=True, normalized=False), AddedToken('[both]', lstrip=True, rstrip=True, special=True, normalized=False),
         AddedToken('heart', single_word=True, normalized=False), AddedToken('heart attack', normalized=False), AddedToken('No Yes', normalized=True),
         AddedToken('\n\n', normalized=False)]


def trained(model, pre, normalizer, specials=(), alphabet=(), size=420):
    t = Tokenizer(model)
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, special_tokens=list(specials), initial_alphabet=list(alphabet), show_progress=False))
    return t


def byte_level(pre, normalizer=None, ignore_merges=False):
    t = trained(models.BPE(ignore_merges=ignore_merges), pre, normalizer, alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.decoder = decoders.ByteLevel()
    return t


def pieces(pre, normalizer, fallback=True, fuse=True, unknown='<unk>'):
    t = trained(models.BPE(unk_token=unknown, byte_fallback=fallback, fuse_unk=fuse), pre, normalizer, ['<unk>'] + (BYTES if fallback else []), size=560)
    t.decoder = decoders.Sequence([decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(' ', 1, 0)])
    return t


def all_tokenizers():
    split = pre_tokenizers.Split
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    legacy = normalizers.Sequence([normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')])

    t = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    t.add_tokens(FLAGS)
    t.post_processor = processors.RobertaProcessing(('</s>', t.token_to_id('</s>')), ('<s>', t.token_to_id('<s>')))
    yield 'gpt2', t
    t = byte_level(pre_tokenizers.Sequence([split(Regex(LLAMA3), 'isolated'), bytes_of]), normalizers.NFC(), True)
    t.add_tokens(FLAGS)
    t.post_processor = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing('<s> $A </s>', None, [('<s>', t.token_to_id('<s>')), ('</s>', t.token_to_id('</s>'))])])
    yield 'llama3', t
    yield 'o200k', byte_level(pre_tokenizers.Sequence([split(Regex(O200K), 'isolated'), bytes_of]))
    yield 'capitals', byte_level(pre_tokenizers.Sequence([split(Regex(r'(?=\p{Lu})'), 'isolated'), split(Regex(r'[,;.]'), 'merged_with_next'), bytes_of]))
    for behavior in ('removed', 'merged_with_previous', 'merged_with_next', 'contiguous'):
        yield f'split_{behavior}', byte_level(pre_tokenizers.Sequence([split(Regex(r'\s|\d'), behavior), bytes_of]))
    yield 'split_invert', byte_level(pre_tokenizers.Sequence([split(Regex(r'\p{L}+'), 'removed', True), split('a', 'merged_with_previous', True), bytes_of]))
    t = pieces(None, legacy)
    t.add_tokens(FLAGS)
    yield 'legacy', t
    for scheme in ('first', 'always', 'never'):
        t = pieces(pre_tokenizers.Metaspace(prepend_scheme=scheme, split=scheme == 'always'), None)
        t.decoder = decoders.Metaspace(prepend_scheme=scheme)
        t.add_tokens(FLAGS[:4])
        yield f'metaspace_{scheme}', t
    t = pieces(split(' ', 'merged_with_previous'), normalizers.Replace(' ', '▁'), False, False)
    yield 'unknown', t
    t = pieces(None, None, False, True)
    t.decoder = None
    yield 'unknown_fused', t
    yield 'bert_cased', word_piece(False)
    yield 'bert_uncased', word_piece(True)
    yield 'no_unknown', pieces(None, None, False, True, None)


def word_piece(lowercase):
    t = Tokenizer(models.WordPiece(unk_token='[UNK]', max_input_chars_per_word=20))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=['[PAD]', '[UNK]', '[CLS]', '[SEP]'], show_progress=False))
    t.post_processor = processors.BertProcessing(('[SEP]', 3), ('[CLS]', 2))
    t.decoder = decoders.WordPiece()
    return t


def text(r):
    parts = [lambda: r.choice(CORPUS), lambda: r.choice([x.content for x in FLAGS]), lambda: r.choice([' ', '  ', '\n', '\t', '\u00a0', '\r\n', '\u3000']),
             lambda: ''.join(chr(r.choice([r.randint(32, 126), r.randint(160, 0x24F), r.randint(0x300, 0x36F), r.randint(0x400, 0x4FF), r.randint(0x3040, 0x30FF),
                                           r.randint(0x1F300, 0x1F64F)])) for _ in range(r.randint(1, 8))),
             lambda: r.choice('abXYZ') * r.randint(1, 50), lambda: str(r.randint(0, 10**6)), lambda: r.choice(["'s", "'LL", "'ſ", "n't", 'CamelCase', 'ABCdef', '▁'])]
    return ''.join(r.choice(parts)() + r.choice(['', ' ']) for _ in range(r.randint(0, 7)))


def main():
    for name, t in all_tokenizers():
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        t.save(os.path.join(folder, 'tokenizer.json'), pretty=False)
        t = Tokenizer.from_file(os.path.join(folder, 'tokenizer.json'))
        r = random.Random(name)
        with open(os.path.join(folder, 'vectors.jsonl'), 'w', encoding='utf-8') as f:
            for _ in range(40):
                s = text(r)
                ids = t.encode(s).ids
                plain = t.encode(s, add_special_tokens=False).ids
                f.write(json.dumps({'text': s, 'ids': ids, 'ids_plain': plain, 'decoded': t.decode(ids)}, ensure_ascii=False) + '\n')


main()
