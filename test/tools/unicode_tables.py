"""Prints src/text/unicode_tables.c: code points as the `tokenizers` library (0.23) sees them.

Needs the Python package `tokenizers`; the output is committed, so a build needs neither. Its regular expressions follow Unicode 16, its NFC Unicode 9."""
import unicodedata
from tokenizers import Regex, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
AGED = unicodedata.unidata_version  # 14.0 with Python 3.11, the version of PCRE2 10.42


def matched(pattern):
    split = pre_tokenizers.Split(Regex(pattern), 'removed')
    found = set()
    for i in range(0, len(POINTS), 4096):
        part = POINTS[i:i + 4096]
        kept = {ord(x) for word, _ in split.pre_tokenize_str(''.join(map(chr, part))) for x in word}
        found.update(c for c in part if c not in kept)
    return found


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def table(name, points, note):
    rows = ranges(points)
    lines, line = [], '   '
    for a, b in rows:
        cell = f' {{0x{a:x}, 0x{b:x}}},'
        if len(line) + len(cell) > 150:
            lines.append(line)
            line = '   '
        line += cell
    lines.append(line)
    print(f'/* {note} */\nconst cadp_range {name}[] = {{\n' + '\n'.join(lines) + f'\n}};\nconst size_t {name}_count = {len(rows)};\n')


def non_starters():
    """c moves in front of U+0345 (class 240) or behind U+0334 (class 1): its combining class is not 0."""
    nfc, out = normalizers.NFC(), set()
    for c in POINTS:
        front, behind = f'\u0378\u0345{chr(c)}', f'\u0378{chr(c)}\u0334'
        if len(nfc.normalize_str(front)) != 3 or nfc.normalize_str(front) != front or nfc.normalize_str(behind) != behind:
            if unicodedata.combining(chr(c)):
                out.add(c)
    return out


def bert():
    """What BertNormalizer drops as control characters and as accents, and what BertPreTokenizer cuts out (Unicode 8)."""
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    strip = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    cut = pre_tokenizers.BertPreTokenizer()
    control = {c for c in POINTS if not clean.normalize_str(chr(c))}
    accents = {c for c in POINTS if not strip.normalize_str(chr(c))}
    marks = {c for c in POINTS if [w for w, _ in cut.pre_tokenize_str(f'a{chr(c)}a')] == ['a', chr(c), 'a']}
    return control, accents, marks


def newly(name):
    """Code points of a category that Unicode 14 did not know, for PCRE2 patterns."""
    return {c for c in matched('\\p{%s}' % name) if not unicodedata.category(chr(c)).startswith(name)}


print('/* Code points as the tokenizers library sees them (regular expressions: Unicode 16; NFC: Unicode 9).\n'
      ' * Made by test/tools/unicode_tables.py. */\n#include "unicode.h"\n')
table('cadp_letters', matched(r'\p{L}'), 'General_Category L')
table('cadp_numbers', matched(r'\p{N}'), 'General_Category N')
table('cadp_spaces', matched(r'\s'), 'White_Space')
table('cadp_marks', non_starters(), 'Canonical_Combining_Class is not 0')
control, accents, marks = bert()
table('cadp_words_control', control, 'dropped by clean_text')
table('cadp_words_accents', accents, 'dropped by strip_accents')
table('cadp_words_punctuation', marks, 'words of their own')
for name in ('L', 'Lu', 'Ll', 'Lt', 'Lm', 'Lo', 'M', 'N', 'P', 'S'):
    extra = newly(name)
    if extra:
        table(f'cadp_newer_{name.lower()}', extra, f'General_Category {name} since Unicode {AGED}')
