#!/bin/sh
# run.sh [ROOT]: what the compiler does not check. One line file:line: reason for each violation; ends with 1 if there is one.
gates=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$gates/../..}" || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=$work/found
: >"$found"

# FILE:LINE:TEXT of all sources: without comments; and with empty strings too.
find src include -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null | sort >"$work/files"
xargs -r awk -f "$gates/strip.awk" <"$work/files" >"$work/text"
xargs -r awk -v blank=1 -f "$gates/strip.awk" <"$work/files" >"$work/code"

# refuse REASON PATTERN [EXCEPT]: code lines with PATTERN in files that do not match EXCEPT
refuse() {
    grep -E -- "^[^:]*:[0-9]*:.*$2" "$work/code" | grep -vE -- "${3:-^\$}" | sed -E "s|^([^:]*:[0-9]*):.*|\1: $1|" >>"$found"
}
word='(^|[^A-Za-z0-9_.>])'

awk -f "$gates/includes.awk" "$gates/layers.txt" "$work/text" >>"$found"
awk -v most=100 -f "$gates/lengths.awk" "$work/code" >>"$found"
refuse 'memory comes from cad_alloc (base.h)' \
    "$word(malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|strndup|v?asprintf) *\\(" '^src/(base/mem\.c|device/)'
refuse 'MPI lives in src/comm' "${word}MPI_[A-Za-z]" '^src/comm/'
refuse 'unsafe or unchecked function' "$word(strcpy|strcat|v?sprintf|atoi|atol|atof|gets|system) *\\("
words=$(sed -n 's/^word //p' "$gates/layers.txt" | tr ' ' '|')
sed -E "s/(^|[^A-Za-z])($words)($|[^A-Za-z])/\1\3/g" "$work/text" | grep -iE -- '^src/[^:]*\.(c|cu):[0-9]*:.*(llama|mistral|qwen|gemma|roberta|distilbert|(^|[^a-z])bert)' |
    sed -E 's/^([^:]*:[0-9]*):.*/\1: a family name: families are data (configs\/families)/' >>"$found"

find src include test -name '*.[ch]' -o -name '*.cu' 2>/dev/null | sort | awk -F/ '$NF in seen { print $0 ":1: the name is taken by " seen[$NF] } { seen[$NF] = $0 }' >>"$found"

alone() { # HEADER LANGUAGE COMPILER…
    header=$1 language=$2
    shift 2
    echo "#include <cadtrain/$header>" >"$work/alone"
    "$@" -fsyntax-only -Wall -Wextra -Wpedantic -Werror -Iinclude -x "$language" "$work/alone" >"$work/says" 2>&1 ||
        echo "include/cadtrain/$header:1: does not compile alone as $language: $(grep -m1 'error' "$work/says")" >>"$found"
}
for h in include/cadtrain/*.h; do
    [ -f "$h" ] || continue
    alone "${h##*/}" c "${CC:-gcc}" -std=c11
    alone "${h##*/}" c++ "${CXX:-g++}" -std=c++17
done

cat "$found"
n=$(wc -l <"$found")
echo "gates: $n violations"
[ "$n" = 0 ]
