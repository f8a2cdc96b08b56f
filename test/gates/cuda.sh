#!/bin/sh
# `make CUDA=1` compiles without warnings and links, and no kernel spills registers: where nvcc is. It needs no GPU. The program goes to a folder of its own.
home=${CUDA_HOME:-/usr/local/cuda}
if [ ! -x "${NVCC:-$home/bin/nvcc}" ]; then
    echo "skip cuda_build ${NVCC:-$home/bin/nvcc} is not there: nothing of CUDA is compiled here"
    exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
out=build/${MODE:-release}-${CC:-gcc}-cuda
fails=0
say() { # NAME CODE
    if [ "$2" = 0 ]; then echo "ok $1"; else
        echo "not ok $1"
        sed 's/^/  # /' "$log" | tail -n 20
        fails=1
    fi
}
make CUDA=1 -j"$(nproc)" "$out/cadtrain" "$out/benchmarks/gpu/gpu" >"$log" 2>&1
say cuda_build $?
[ $fails = 0 ] || exit 1
sh benchmarks/gpu/resources.sh --check >"$log" 2>&1
say cuda_kernels_do_not_spill $?
"$out/cadtrain" version >"$log" 2>&1
say a_program_with_cuda_starts_without_a_gpu $?
if [ -z "$(ldd "$out/cadtrain" | grep libnccl)" ]; then echo "ok nccl_is_loaded_when_it_is_wanted"; else say nccl_is_loaded_when_it_is_wanted 1; fi
exit $fails
