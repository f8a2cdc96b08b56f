# Sourced by run.sh and check.sh: where the programs are, in a bundle (bin/) or in a source tree (OUT, else what make built last).
root=$(cd "$here/../.." && pwd)
if [ -d "$root/bin" ]; then
    bench=$root/bin/gpu table=$root/bin/test_ops_emulated program=$root/bin/cadtrain
else
    : "${OUT:=$root/build/release-gcc-cuda}"
    [ -d "$OUT" ] || OUT=$root/build/release-gcc
    bench=$OUT/benchmarks/gpu/gpu table=$OUT/test/unit/device/test_ops_emulated program=$OUT/cadtrain
fi
for p in "$bench" "$table" "$program"; do
    [ -x "$p" ] || {
        echo "$(basename "$0"): $p is missing: make CUDA=1 all bench unit (for --dry also without CUDA=1), or unpack a bundle" >&2
        exit 2
    }
done
