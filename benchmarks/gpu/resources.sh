#!/bin/sh
# resources.sh [--check]: what each kernel takes of a multiprocessor, as ptxas said when `make CUDA=1` compiled it. Writes
# benchmarks/results/cuda-resources.md; --check only ends with 1 when a kernel spills registers.
cd "$(dirname "$0")/../.." || exit 2
folder=${BUILD:-build}/cuda/src/device/cuda
if ! ls "$folder"/*.usage >/dev/null 2>&1; then
    echo "resources: $folder holds no *.usage: run make CUDA=1 first" >&2
    exit 2
fi

# NAME TARGET REGISTERS STACK STORES LOADS FILE, a line for each kernel and target
lines() {
    for usage in "$folder"/*.usage; do
        awk -v file="$(basename "$usage" .o.usage)" '
            /Compiling entry function/ { split($0, part, "\047"); name = part[2]; target = part[4] }
            /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
            /Used [0-9]+ registers/ && name != "" {
                for (i = 1; i < NF; i++) if ($i == "Used") registers = $(i + 1)
                print name, target, registers, stack, stores, loads, file
                name = ""
            }' "$usage"
    done
}

spilling=$(lines | awk '$5 + $6 > 0 { print $1 " for " $2 ": " $5 " bytes stored, " $6 " loaded" }' | c++filt)
if [ "$1" = --check ]; then
    [ -z "$spilling" ] || echo "$spilling"
    [ -z "$spilling" ]
    exit
fi

table() {
    lines | sort -k 7,7 -k 1,1 -k 2,2 | awk '{ key = $7 " " $1; if (!(key in seen)) { seen[key] = ++n; order[n] = key } r[key, $2] = $3; s[key, $2] = $5 + $6 + $4 }
        END { for (i = 1; i <= n; i++) { split(order[i], part, " "); k = order[i]
            print part[1] "|" part[2] "|" r[k, "sm_80"] "|" s[k, "sm_80"] "|" r[k, "sm_90"] "|" s[k, "sm_90"] } }' | while IFS='|' read -r file name a b c d; do
        printf '| %s | `%s` | %s | %s | %s | %s |\n' "$file" "$(c++filt "$name" | sed 's/^void //; s/(.*//')" "$a" "$b" "$c" "$d"
    done
}

out=benchmarks/results/cuda-resources.md
{
    echo '# Registers of the GPU kernels'
    echo
    echo "Per thread, as ptxas of $("${NVCC:-${CUDA_HOME:-/usr/local/cuda}/bin/nvcc}" --version | sed -n 's/.*release \([0-9.]*\), V\(.*\)/CUDA \2/p') reports them (\`make CUDA=1\`, then \`benchmarks/gpu/resources.sh\`). Spills: bytes of stack, stored"
    echo 'and loaded because registers did not suffice; an attention kernel has 128 threads and may have 255 registers each.'
    echo
    echo '| file | kernel | sm_80 | spills | sm_90 | spills |'
    echo '|---|---|---:|---:|---:|---:|'
    table
} >"$out"
echo "$out: $(lines | wc -l) kernels and targets, ${spilling:-none spills}"
