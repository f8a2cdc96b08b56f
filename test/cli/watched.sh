#!/bin/sh
# The GPU's kernels under the address sanitizer (`make watched`): the table of operations, and two training steps of golden models, which end on the
# processor's numbers. Here MODE=release; with MODE=asan everything else is watched too.
. ./test/tools/e2e.sh
watched=$repository/build/watched-${CC:-gcc}
models=$(cd "$repository" && cd "${CADTRAIN_SHARED:-../shared}/golden" 2>/dev/null && pwd)
export ASAN_OPTIONS=detect_leaks=0 CMOCKA_MESSAGE_OUTPUT=TAP
make -C "$repository" -j"$(nproc)" CC="${CC:-gcc}" MODE=release watched >"$log" 2>&1 || {
    say watched_kernels_compile "the build failed:"
    exit 1
}
"$watched/test_ops_emulated" >table 2>&1 &
table=$!

# apart LIMIT_LOSS LIMIT_NORM: how far two steps are from those of the processor, and whether that is within c u sqrt(terms)
apart() {
    figures cpu >a.txt
    figures watched >b.txt
    paste -d ' ' a.txt b.txt | tr -d ',":a-df-zA-Z_' | awk -v loss="$1" -v norm="$2" '
        function far(x, y) { return (x > y ? x - y : y - x) / (y > 1 ? y : 1) }
        { n++; if (far($1, $3) > l) l = far($1, $3); if (far($2, $4) > g) g = far($2, $4) }
        END { if (n != 2 || !(l <= loss) || !(g <= norm)) printf "%d steps, losses %.2g apart (allowed %.2g), gradient norms %.2g (allowed %.2g)", n, l, loss, g, norm }'
}

# steps FAMILY LIMIT_LOSS LIMIT_NORM NAME FLAGS…
steps() {
    model=$models/$1/model records=$models/$1/records.json loss=$2 norm=$3 name=$4
    shift 4
    rm -rf cpu watched
    trained "$name" 1 cpu --max-length 40 --per-device-train-batch-size 2 --max-steps 2 "$@" || return
    CADTRAIN_EMULATED_STREAMS=late cadtrain=$watched/cadtrain trained "$name" 1 watched --max-length 40 --per-device-train-batch-size 2 --max-steps 2 --device emulated "$@" || return
    say "$name" "$(apart "$loss" "$norm")"
}

# As in devices.sh: sums of at most 1024 terms in fp32, 8 u sqrt(1024) for the loss and four times that for the norm; in bf16 4 u and 16 u.
if [ -d "$models/llama/model" ]; then
    steps llama 1.5e-5 6.1e-5 llama_whole
    steps qwen2 1.5e-5 6.1e-5 qwen2_with_adapters --lora-enable true --lora-r 4 --lora-dropout 0.1
    steps qwen2 1.5e-5 6.1e-5 qwen2_over_codes_turned_back_ahead --lora-enable true --lora-r 4 --load-in-4bit true --gradient-checkpointing true
    steps gemma2 7.8e-3 3.1e-2 gemma2_in_bf16 --bf16 true
    steps llama4 1.5e-5 6.1e-5 llama4_with_experts
else
    echo "skip golden_models_under_the_sanitizer ${CADTRAIN_SHARED:-../shared}/golden is not there"
fi
wait $table
code=$?
cp table "$log"
say operations_under_the_sanitizer "$([ $code = 0 ] || echo "ended with $code")"
exit $fails
