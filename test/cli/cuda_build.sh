#!/bin/sh
# `make CUDA=1` compiles and links where nvcc is; no kernel spills; the program says what is missing where there is no GPU. A program without
# CUDA has no trace of it but one sentence.
. ./jobs/setup.sh
mode=${MODE:-release} cc=${CC:-gcc} home=${CUDA_HOME:-/usr/local/cuda}
plain=${CADTRAIN:-build/$mode-$cc/cadtrain}
nvcc=${NVCC:-$home/bin/nvcc}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
fails=0

say() {
    if [ -z "$2" ]; then echo "ok $1"; else
        echo "not ok $1 $2"
        sed 's/^/  # /' "$log" | tail -n 12
        fails=1
    fi
}

: >"$log"
trace=$(ldd "$plain" | grep -iE 'cublas|cudart|libcuda' | head -n 1)
say no_trace_of_cuda_without_it "${trace:+the program needs $trace}"

if ! command -v "$nvcc" >/dev/null; then
    make CUDA=1 NVCC="$nvcc" CC="$cc" MODE="$mode" -n all >"$log" 2>&1
    say a_missing_nvcc_is_named "$(grep -q 'CUDA=1 needs nvcc' "$log" || echo 'make CUDA=1 does not say that nvcc is missing')"
    echo "skip make_cuda there is no $nvcc (set CUDA_HOME or NVCC)"
    exit $fails
fi

program=build/$mode-$cc-cuda/cadtrain
make -j"$(nproc)" CUDA=1 CC="$cc" MODE="$mode" "$program" >"$log" 2>&1
code=$?
say make_cuda_compiles_and_links "$([ $code = 0 ] || echo "exit code $code")"
[ $code = 0 ] || exit 1
grep -vE '^  (CC|CXX|NVCC) ' "$log" >"$log.rest"
mv "$log.rest" "$log"
say make_cuda_has_no_warnings "$([ ! -s "$log" ] || echo 'the compilers said:')"
reason=
benchmarks/gpu/resources.sh --check >"$log" 2>&1 || reason='registers are spilled:'
say no_kernel_spills "$reason"
targets=$(grep -ho "for 'sm_[0-9a-z]*'" build/cuda/src/device/cuda/*.usage | sort -u | tr -d "'\n")
say targets_are_sm_80_and_sm_90 "$([ "$targets" = 'for sm_80for sm_90' ] || echo "found $targets")"
"$program" version --json >"$log" 2>&1
say the_program_with_cuda_starts "$(grep -q '"cuda": "' "$log" || echo 'version --json does not speak of cuda')"
exit $fails
