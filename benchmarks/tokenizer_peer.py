"""Speed of the tokenizers library on one thread beside ours: tokenizer_peer.py PROGRAM DIR FILE [TIMES]; PROGRAM is benchmarks/tokenizer.c, built."""
import json
import os
import subprocess
import sys
import time

os.environ['TOKENIZERS_PARALLELISM'] = 'false'
os.environ['RAYON_NUM_THREADS'] = '1'
from tokenizers import Tokenizer  # noqa: E402  (reads the environment)


def texts(path):
    with open(path, encoding='utf-8') as f:
        rows = json.load(f) if f.read(1) == '[' and not f.seek(0) else [json.loads(line) for line in [f.seek(0)] and f]
    return [r['text'] if isinstance(r, dict) else r for r in rows]


def main():
    program, folder, path = sys.argv[1:4]
    times = int(sys.argv[4]) if len(sys.argv) > 4 else 10
    all_texts = texts(path)
    size = sum(len(t.encode()) for t in all_texts)
    tokenizer = Tokenizer.from_file(f'{folder}/tokenizer.json')
    tokenizer.no_truncation()
    tokenizer.no_padding()
    seconds, tokens = [], 0
    for _ in range(times):
        start = time.perf_counter()
        encoded = tokenizer.encode_batch(all_texts)
        seconds.append(time.perf_counter() - start)
        tokens = sum(len(e.ids) for e in encoded)
    peer = {'tokens': tokens, 'first_mb_per_s': round(size / seconds[0] / 1e6, 2), 'best_mb_per_s': round(size / min(seconds) / 1e6, 2)}
    ours = json.loads(subprocess.run([program, folder, path, str(times)], check=True, capture_output=True, text=True).stdout)
    assert ours['tokens'] == tokens, (ours, peer)
    print(json.dumps({'cadtrain': ours, 'tokenizers': peer, 'ratio_first': round(ours['first_mb_per_s'] / peer['first_mb_per_s'], 2),
                      'ratio_best': round(ours['best_mb_per_s'] / peer['best_mb_per_s'], 2)}))


main()
