#!/bin/sh
# run.sh [--peer] [--steps N] [--repeats N] [--cases "METHOD:DTYPE…"] [--only "PART…"] [--output FILE]: measures this machine and prints one JSON object
# (a table goes to stderr). `make bench` builds and calls it. METHOD lora|qlora|full, DTYPE fp32|bf16; PART operations tokenizer startup training.
# --peer runs Transformers + PEFT on the same model and records, in turn with cadtrain: with $PYTHON, or in an environment made for it.
# Needs about 6 GB of disk under $CASES (build/benchmarks). Nothing here is ever run by the tests: time is measured, not gated.
set -eu
cd "$(dirname "$0")/.."
: "${BUILD:=build}" "${BENCH:=$BUILD/release-gcc/benchmarks}" "${PROGRAM:=$BUILD/cadtrain}" "${CASES:=$BUILD/benchmarks}"
command="benchmarks/run.sh $*"
peer= steps=6 repeats=1 cases="lora:fp32 full:fp32 lora:bf16 full:bf16" only="operations tokenizer startup training" output=
while [ $# -gt 0 ]; do
    case $1 in
        --peer) peer=1 ;;
        --steps | --repeats | --cases | --only | --output)
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
[ -x "$PROGRAM" ] && [ -x "$BENCH/measure" ] || {
    echo "run.sh: $PROGRAM or $BENCH/measure is missing: run make bench" >&2
    exit 2
}

say() { echo "bench: $*" >&2; }
part() { case " $only " in *" $1 "*) return 0 ;; *) return 1 ;; esac }
quoted() { printf '"%s"' "$(printf '%s' "$1" | tr -d '"\\' | tr -s '\n\t ' ' ')"; }
number_of() { sed -n "s/.*\"$2\": \([0-9.]*\).*/\1/p" "$1"; }
rows=$CASES/rows.jsonl case=$CASES/smol-$steps
mkdir -p "$CASES"
: >"$rows"

if [ -n "$peer" ] && [ -z "${PYTHON:-}" ]; then
    PYTHON=$CASES/venv/bin/python
    if ! "$PYTHON" -c 'import torch, transformers, peft, bitsandbytes' 2>/dev/null; then
        say "making $CASES/venv"
        python3 -m venv "$CASES/venv"
        "$CASES/venv/bin/pip" install -q --extra-index-url https://download.pytorch.org/whl/cpu "torch==2.13.0+cpu" >&2 || "$CASES/venv/bin/pip" install -q torch==2.13.0 >&2
        "$CASES/venv/bin/pip" install -q transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 bitsandbytes==0.50.2 >&2
    fi
fi
jemalloc=$(ldconfig -p 2>/dev/null | sed -n 's/.*libjemalloc\.so\.2.* => //p' | head -1)

# The case: the 135M shape, random weights, records of uneven length; as many as the steps need.
if [ ! -f "$case/case.json" ]; then
    say "making $case"
    "$BENCH/make_case" "$case" records=$((8 * steps))
fi

# one SIDE METHOD DTYPE PEAK COMMAND…: measures one training and keeps its row.
one() {
    side=$1 method=$2 dtype=$3 peak=$4
    shift 4
    say "$method $dtype $side"
    rm -rf "$case/out"
    if "$BENCH/measure" "$case/case.json" "$method" "$dtype" "$side" "$peak" "$log" "$CASES/$side.txt" "$@" >"$CASES/row"; then
        cat "$CASES/row" >>"$rows"
    else
        tail -n 3 "$CASES/$side.txt" >&2
    fi
}

ours() { # METHOD DTYPE PEAK
    log=$case/out/log.jsonl
    [ "$1" = full ] && lora=false || lora=true
    [ "$1" = qlora ] && codes=true || codes=false
    [ "$2" = bf16 ] && bf16=true || bf16=false
    one cadtrain "$@" "$PROGRAM" train --config benchmarks/train.yaml --model-name-or-path "$case/model" --train-file "$case/train.jsonl" \
        --output-dir "$case/out" --lora-enable $lora --bf16 $bf16 --load-in-4bit $codes --set model.bnb_4bit_use_double_quant=$codes
}

python_side() { # HOW METHOD DTYPE PEAK
    how=$1 log=$case/$1.log
    shift
    [ "$how" = plain ] && preload=$jemalloc || preload=
    one "$how" "$@" env ${preload:+LD_PRELOAD=$preload} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false "$PYTHON" benchmarks/peer.py "$how" \
        --model "$case/model" --train-file "$case/train.jsonl" --log "$log" --output "$case/peer" --method "$1" --dtype "$2"
}

say "matrix peak"
"$BENCH/peak" 3 >"$CASES/peak.json"
peak_fp32=$(number_of "$CASES/peak.json" fp32),$(number_of "$CASES/peak.json" fp32_cpu)
peak_bf16=$(number_of "$CASES/peak.json" bf16),$(number_of "$CASES/peak.json" bf16_cpu)
load_before=$(cut -d' ' -f1 /proc/loadavg)

if part training; then
    for repeat in $(seq "$repeats"); do
        for pair in $cases; do
            method=${pair%:*} dtype=${pair#*:}
            [ "$dtype" = bf16 ] && peak=$peak_bf16 || peak=$peak_fp32
            ours "$method" "$dtype" "$peak"
            [ -z "$peer" ] || python_side trainer "$method" "$dtype" "$peak"
            [ -z "$peer" ] || python_side plain "$method" "$dtype" "$peak"
            [ -z "$peer" ] || [ "$repeats" -gt 1 ] || ours "$method" "$dtype" "$peak"
        done
    done
fi
training=$("$BENCH/summary" <"$rows")

operations=null tokenizer=null start_up=null
if part operations && [ -x "$BENCH/ops" ]; then
    say "operations"
    operations="[$("$BENCH/ops" | paste -sd, -)]"
fi
if part tokenizer; then
    say "tokenizer"
    sed 's/"input"/"text"/' "$case/train.jsonl" >"$CASES/texts.jsonl"
    tokenizer=$("$BENCH/tokenizer" "$case/model" "$CASES/texts.jsonl" 30)
    [ -z "$peer" ] || tokenizer=$("$PYTHON" benchmarks/tokenizer_peer.py "$BENCH/tokenizer" "$case/model" "$CASES/texts.jsonl" 30)
fi
if part startup; then
    say "start-up"
    start_up=$(BENCH=$BENCH PROGRAM=$PROGRAM CASES=$CASES benchmarks/startup.sh)
fi

versions() {
    printf '{"cadtrain": %s, "onednn": %s, "compiler": %s' "$(quoted "$("$PROGRAM" version 2>/dev/null | head -1)")" \
        "$(quoted "$(dpkg-query -W -f '${Version}' libdnnl-dev 2>/dev/null)")" "$(quoted "$(gcc --version | head -1)")"
    [ -z "$peer" ] || "$PYTHON" -c 'import torch, transformers, peft, bitsandbytes, sys; print(f", \"python\": \"{sys.version.split()[0]}\", \"torch\": \"{torch.__version__}\", \"transformers\": \"{transformers.__version__}\", \"peft\": \"{peft.__version__}\", \"bitsandbytes\": \"{bitsandbytes.__version__}\"", end="")'
    [ -z "$peer" ] || printf ', "jemalloc": %s' "$([ -n "$jemalloc" ] && echo true || echo false)"
    printf '}'
}
flag() { grep -qw "$1" /proc/cpuinfo && echo true || echo false; }
result() {
    printf '{"when": "%s", "commit": %s, "command": %s, "versions": %s,\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(quoted "$(git describe --always --dirty 2>/dev/null)")" \
        "$(quoted "$command")" "$(versions)"
    printf '"machine": {"processor": %s, "cores": %d, "memory_bytes": %d, "avx512f": %s, "avx512_bf16": %s, "amx_bf16": %s, "load_before": %s, "load_after": %s},\n' \
        "$(quoted "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)")" "$(nproc)" "$(awk '/^MemTotal/ {printf "%.0f", $2 * 1024}' /proc/meminfo)" \
        "$(flag avx512f)" "$(flag avx512_bf16)" "$(flag amx_bf16)" "$load_before" "$(cut -d' ' -f1 /proc/loadavg)"
    printf '"case": %s,\n"matrix_peak_gflops": %s,\n' "$(cat "$case/case.json")" "$(cat "$CASES/peak.json")"
    printf '"training": %s,\n"runs": [%s],\n' "$training" "$(paste -sd, "$rows")"
    printf '"operations": %s,\n"tokenizer": %s,\n"start_up": %s}\n' "$operations" "$tokenizer" "$start_up"
}
if [ -n "$output" ]; then result >"$output"; else result; fi
