#!/bin/sh
# The reference numbers of Transformers and PEFT beside this repository (CADTRAIN_SHARED, default ../shared): one line for each family and check.
# accept.sh [FAMILIES [CHECKS]]: others than those below.
shared=${CADTRAIN_SHARED:-../shared}
program=${CADTRAIN:-build/cadtrain}
families=$1
checks=${2:-ids,logits,bf16,full,lora,ranks,resume,causal,greedy,v4,head,qlora,sft,trainer,order,metrics}
if [ ! -f "$shared/tools/accept/accept.py" ]; then
    echo "skip acceptance $shared/tools/accept is not there"
    exit 0
fi
if ! command -v python3 >/dev/null; then
    echo "skip acceptance python3 is not installed"
    exit 0
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# accept FLAGS…: its lines, as ours
accept() {
    python3 "$shared/tools/accept/accept.py" --bin "$program" --golden "$shared/golden" --tokenizers "$shared/tokenizers/tokenizers.tar.xz" -v "$@" >"$log" 2>&1
    code=$?
    sed -n 's/^ok   /ok accept: /p; s/^NOT  /not ok accept: /p' "$log"
    [ $code = 0 ] || grep -q '^NOT ' "$log" || { echo "not ok accept: ended with $code" && sed 's/^/  # /' "$log" | tail -n 5; }
    [ $code = 0 ] || fails=1
}
# Two lanes, one for each core. The families of the third call differ from the others in nothing that sharding sees.
lane1() {
    log=$scratch/log1 fails=0
    accept --families llama,llama31,qwen2 --checks "$checks"
    accept --families llama --checks tokenizers --only-tokenizers llama3,qwen2_5,qwen3
    return $fails
}
lane2() {
    log=$scratch/log2 fails=0
    accept --families gemma2,llama4,bert --checks "$checks"
    accept --families mistral,qwen3,gemma3 --checks ids,logits,bf16,full,lora,causal,greedy,v4,sft
    accept --families llama,qwen2 --checks logits,bf16,full,lora --device emulated
    return $fails
}
if [ -n "$families" ]; then
    log=$scratch/log fails=0
    accept --families "$families" --checks "$checks"
    exit $fails
fi
lane1 >"$scratch/said1" 2>&1 &
other=$!
lane2
code=$?
wait $other || code=1
cat "$scratch/said1"
exit $code
