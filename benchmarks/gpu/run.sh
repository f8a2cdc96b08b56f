#!/bin/sh
# run.sh [--dry] [--device cuda:0] [--minutes 9] [--no-peer] [--output NAME]: measures one GPU in at most nine minutes; writes NAME.json and NAME.md
# (benchmarks/results/gpu-HOST). Needs nothing but what bundle.sh brings; the Python stack runs where $PYTHON (python3) has torch.
# --dry: the same calls with tiny sizes on the emulated grid (or --device cpu): the script is tried, nothing is measured.
# Pieces come by worth; one for which no time is left is listed as left out.
here=$(cd "$(dirname "$0")" && pwd)
device=cuda:0 minutes=9 peer=1 dry= output=
while [ $# -gt 0 ]; do
    case $1 in
        --dry) dry=1 ;;
        --no-peer) peer= ;;
        --device | --minutes | --output)
            name=${1#--}
            shift
            eval "$name=\${1:?a value is missing}"
            ;;
        *)
            sed -n '2,5s/^# //p' "$0" >&2
            exit 2
            ;;
    esac
    shift
done
. "$here/programs.sh"
[ -z "$dry" ] || [ "$device" != cuda:0 ] || device=emulated
: "${PYTHON:=python3}" "${output:=$root/benchmarks/results/gpu-$(hostname)}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rows=$work/rows missing=$work/missing
: >"$rows" >"$missing"
[ -z "$peer" ] || "$PYTHON" -c 'import torch' 2>/dev/null || {
    echo "run.sh: $PYTHON has no torch: the Python stack is left out" >&2
    echo "the Python stack: $PYTHON has no torch" >>"$missing"
    peer=
}
end=$(($(date +%s) + minutes * 60 - 5))

# piece SECONDS SIDE COMMAND…: its JSON line goes to the rows, with its side; at most so many seconds, and none after the end.
piece() {
    limit=$1 side=$2
    shift 2
    left=$((end - $(date +%s)))
    shown=$(echo "$*" | sed "s|$root/||g; s|^[^ ]*/||")
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt 3 ]; then
        echo "$side: $shown: no time left" >>"$missing"
        return
    fi
    echo "gpu: $side: $shown" >&2
    if timeout -k 2 "$limit" "$@" >"$work/out" 2>"$work/err"; then
        sed -n 's/^{/{"side": "'"$side"'", /p' "$work/out" >>"$rows"
    else
        echo "$side: $shown: ended with $?: $(tail -n 1 "$work/err" | tr -d '"\\' | cut -c1-200)" >>"$missing"
    fi
}
ours() { piece "$1" cadtrain "$bench" "$device" $2; }
theirs() { [ -z "$peer" ] || piece "$1" python "$PYTHON" "$here/peer.py" "$device" $2; }
both() {
    ours "$1" "$2"
    theirs "$1" "$2"
}

began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
ours 20 what
theirs 40 versions
if [ -n "$dry" ]; then
    ours 60 "matrix 64"
    for head in 64 80; do both 60 "attention $head 64"; done
    for how in full lora uneven; do both 100 "step $here/shapes/dry.json $how 48 2 1"; done
    for how in qlora paged offload; do ours 60 "step $here/shapes/dry.json $how 48 2 1"; done
    ours 60 "step $here/shapes/dry-experts.json sft 24 1 1"
    ours 60 "generate $here/shapes/dry-experts.json 8 1 2 nf4"
    ours 60 "generate $here/shapes/dry.json 8 2 2"
    ours 60 "codes 64 64"
    ours 60 "moments 4096"
    echo "the operation table: a dry run" >>"$missing"
else
    ours 20 "matrix 8192"
    both 80 "step $here/shapes/llama-3.1-8b.json full 1024 4 8"
    both 60 "step $here/shapes/llama-3.1-8b.json lora 4096 4 5"
    ours 30 "attention 128 4096"
    theirs 30 "attention 128 4096"
    both 60 "step $here/shapes/qwen2.5-7b.json full 1024 4 8"
    both 50 "step $here/shapes/llama-3.1-8b.json uneven 1024 16 5"
    both 50 "step $here/shapes/qwen2.5-7b.json lora 4096 4 5"
    ours 40 "step $here/shapes/llama-3.1-8b.json qlora 4096 4 5"
    ours 30 "generate $here/shapes/llama-3.1-8b.json 1024 1 32"
    ours 150 "step $here/shapes/llama-4-scout.json sft 4096 1 3"
    ours 150 "generate $here/shapes/llama-4-scout.json 1024 1 16 nf4"
    ours 15 "codes 14336 4096"
    ours 15 "moments 268435456"
    for how in paged offload; do ours 60 "step $here/shapes/llama-3.1-8b.json $how 1024 4 3"; done
    both 40 "step $here/shapes/qwen2.5-7b.json uneven 1024 16 5"
    for head in 64 80 96 256; do both 20 "attention $head 4096"; done
    left=$((end - $(date +%s)))
    if [ "$left" -gt 20 ]; then
        CADTRAIN_TEST_DEVICE=$device timeout -k 2 "$left" "$table" >"$work/table" 2>&1
        code=$?
        printf '{"side": "cadtrain", "what": "operations", "exit": %d, "passed": %d, "failed": %d}\n' "$code" "$(grep -c '  OK ' "$work/table")" "$(grep -c 'FAILED  \]' "$work/table")" >>"$rows"
    else echo "the operation table: no time left" >>"$missing"; fi
fi

quoted() { printf '"%s"' "$(tr -d '"\\' | tr -s '\n\t ' ' ')"; }
{
    printf '{"when": "%s", "dry": %s, "device": "%s", "driver": %s,\n' "$began" "${dry:+true}${dry:-false}" "$device" \
        "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -1 | quoted)" | sed 's/true1/true/'
    printf '"cadtrain": %s,\n' "$("$program" version 2>/dev/null | quoted)"
    printf '"left_out": [%s],\n' "$(sed 's/.*/"&"/' "$missing" | paste -sd, -)"
    printf '"rows": [%s]}\n' "$(paste -sd, "$rows")"
} >"$output.json"

recomputed() { case $1 in none | false | '') ;; true) echo ', recomputed' ;; *) echo ", $1 recomputed" ;; esac }
value() { sed -n 's/.*"'"$1"'": *"\{0,1\}\([^",}]*\).*/\1/p'; }
{
    if [ -n "$dry" ]; then echo "# A dry run: nothing here is a measurement"; else echo "# One GPU: $(grep -m1 '"what": "device"' "$rows" | value device)"; fi
    printf '\n%s, `benchmarks/gpu/run.sh`. Shares are of 989.4 TFLOP/s; FLOP a token by the formula of docs/numerics.md.\n\n' "$began"
    echo '| side | what | tokens/s | TFLOP/s | share of peak | peak memory, GiB |'
    echo '|---|---|---|---|---|---|'
    while read -r row; do
        v() { echo "$row" | value "$1"; }
        case $(v what) in
            matrix) echo "| $(v side) | matrix, $(v size) on each side | | $(v tflops) | | |" ;;
            attention) echo "| $(v side) | attention, head $(v head), length $(v length) | | $(v forward_tflops) forward, $(v backward_tflops) backward | | |" ;;
            step)
                echo "| $(v side) | $(v shape) $(v how), $(v sequences) x $(v length)$(recomputed "$(v recompute)") | $(v tokens_per_second) | $(awk -v f="$(v flop_per_token)" -v t="$(v tokens_per_second)" 'BEGIN { printf "%.4g", f * t / 1e12 }') | $(v share_of_peak) | $(awk -v b="$(v peak_bytes)" 'BEGIN { printf "%.2f", b / 2^30 }') |"
                ;;
            generate) echo "| $(v side) | $(v shape) generating, $(v sequences) at once behind $(v past) tokens | $(v tokens_per_second) | | | $(awk -v b="$(v peak_bytes)" 'BEGIN { printf "%.2f", b / 2^30 }') |" ;;
            codes) echo "| $(v side) | $(v code) to bf16, $(v rows) x $(v cols): $(v gigabytes_per_second) GB/s | | | | |" ;;
            moments) echo "| $(v side) | AdamW, moments in $(v bits) bits: $(v gigabytes_per_second) GB/s, $(v seconds_per_billion) s a billion parameters | | | | |" ;;
            operations) echo "| $(v side) | operation table: $(v passed) passed, $(v failed) failed | | | | |" ;;
        esac
    done <"$rows"
    printf '\nWhere the time of a step goes (one more step, which waits after every operation):\n\n'
    while read -r row; do
        case $(echo "$row" | value what) in step) echo "$row" | sed -n 's/.*"shares": {\([^}]*\)}.*/\1/p' | tr -d '"' | sed "s/^/- $(echo "$row" | value shape) $(echo "$row" | value how): /" ;; esac
    done <"$rows"
    printf '\nVersions: cadtrain %s; driver %s.\n' "$("$program" version 2>/dev/null | tr -s '\n\t ' ' ')" "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)"
    grep '"what": "versions"' "$rows" | tr -d '"{}' | sed 's/.*what: versions, /The Python stack: /'
    [ ! -s "$missing" ] || printf '\nLeft out:\n'
    sed 's/^/- /' "$missing"
} >"$output.md"
cat "$output.md"
