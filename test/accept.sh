#!/bin/sh
# The reference numbers of Transformers and PEFT beside this repository (CADTRAIN_SHARED, default ../shared): one line for each family and check.
# accept.sh [FAMILIES [CHECKS]]: others than those below.
shared=${CADTRAIN_SHARED:-../shared}
program=${CADTRAIN:-build/cadtrain}
families=${1:-llama,llama31,qwen2,gemma2,llama4,bert}
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
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# accept FLAGS…: its lines, as ours
accept() {
    python3 "$shared/tools/accept/accept.py" --bin "$program" --golden "$shared/golden" --tokenizers "$shared/tokenizers/tokenizers.tar.xz" -v "$@" >"$log" 2>&1
    code=$?
    sed -n 's/^ok   /ok accept: /p; s/^NOT  /not ok accept: /p' "$log"
    [ $code = 0 ] || grep -q '^NOT ' "$log" || { echo "not ok accept: ended with $code" && sed 's/^/  # /' "$log" | tail -n 5; }
    [ $code = 0 ] || fails=1
}
fails=0
accept --families "$families" --checks "$checks"
# Nothing in these differs from the others in what sharding sees.
[ $# -gt 0 ] || accept --families mistral,qwen3,gemma3 --checks ids,logits,bf16,full,lora,causal,greedy,v4,sft
[ $# -gt 0 ] || accept --families llama,qwen2 --checks logits,bf16,full,lora --device emulated
[ $# -gt 0 ] || accept --families llama --checks tokenizers --only-tokenizers llama3,qwen2_5,qwen3
exit $fails
