#!/bin/sh
# run.sh SECONDS [NAME…]: every fuzz target (or those named) for so long on one core, under the address and undefined-behaviour sanitizers. Build with
# `make fuzz` first. Corpora grow in build/fuzz-corpus/NAME; what crashes lies in build/fuzz-found. Ends with 1 if something was found.
cd "$(dirname "$0")/../.." || exit 2
seconds=${1:-60}
[ $# = 0 ] || shift
found=0
mkdir -p build/fuzz-found
for source in test/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    [ $# = 0 ] || case " $* " in *" ${name#fuzz_} "*) ;; *) continue ;; esac
    corpus=build/fuzz-corpus/${name#fuzz_}
    mkdir -p "$corpus"
    build/fuzz-clang/test/fuzz/replay_"${name#fuzz_}" --write "$corpus"
    build/fuzz-clang/test/fuzz/"$name" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 \
        -artifact_prefix=build/fuzz-found/"${name#fuzz_}"- "$corpus" >build/fuzz-found/"${name#fuzz_}".log 2>&1 || found=1
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: */runs /p; s/^stat::peak_rss_mb: */peak MB /p' build/fuzz-found/"${name#fuzz_}".log | tr '\n' ' ')$(grep -c '^==.*ERROR\|SUMMARY' build/fuzz-found/"${name#fuzz_}".log | sed 's/^0$/clean/; t; s/.*/FOUND: see its log/')"
done
exit $found
