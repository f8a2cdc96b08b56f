#!/bin/sh
# bundle.sh [--lean] OUT.tar.gz: the program, its benchmarks and every shared library they need, for a GPU machine that has the driver but no MPI,
# HDF5, internet or root. Unpack it there and run benchmarks/gpu/check.sh and run.sh in it; bin/cadtrain is the program for one rank (it needs no MPI
# installation: a single rank uses the self communicator).
# --lean: without cuBLASLt and NCCL (hundreds of megabytes); they are taken from the machine's CUDA or from its Python's nvidia packages.
here=$(cd "$(dirname "$0")" && pwd)
lean=
[ "$1" != --lean ] || { lean=1 && shift; }
[ $# = 1 ] || {
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
}
. "$here/programs.sh"
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/cadtrain-gpu
mkdir -p "$top/bin" "$top/programs" "$top/lib" "$top/benchmarks/gpu" "$top/benchmarks/results"

# What a program loads, and NCCL, which it finds by itself.
libraries() {
    ldd "$1" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/.*ld-linux/ { print $1 }'
}
is_large() { case $1 in *libcublas* | *libnccl*) return 0 ;; *) return 1 ;; esac }
for p in "$bench" "$table" "$program"; do
    cp "$p" "$top/programs/"
    libraries "$p"
done | sort -u >"$work/libraries"
case $(cat "$work/libraries") in *libcublasLt*)
    for n in "${NCCL_HOME:-/usr/local/cuda}"/lib*/libnccl.so.2 /usr/lib/*/libnccl.so.2; do
        [ ! -f "$n" ] || { echo "$n" >>"$work/libraries" && break; }
    done
    ;;
esac
while read -r l; do
    [ -n "$lean" ] && is_large "$l" && continue
    case $l in *libcuda.so* | *libnvidia*) continue ;; esac # the driver's belong to the machine
    cp -L "$l" "$top/lib/$(basename "$l")"
done <"$work/libraries"
loader=$(basename "$(grep -m1 ld-linux "$work/libraries")")

# Each program is started by the loader it was linked for, with our libraries first and the machine's CUDA and driver behind them.
for p in "$top"/programs/*; do
    name=$(basename "$p")
    cat >"$top/bin/$name" <<END
#!/bin/sh
top=\$(cd "\$(dirname "\$0")/.." && pwd)
more=
for d in /usr/local/cuda/lib64 /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu /usr/lib64 /usr/local/nvidia/lib64 \$(ls -d "\${PYTHON_NVIDIA:-/usr/local/lib/python3*/*-packages/nvidia}"/*/lib 2>/dev/null); do
    [ ! -d "\$d" ] || more=\$more:\$d
done
exec "\$top/lib/$loader" --library-path "\$top/lib\$more\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" "\$top/programs/$name" "\$@"
END
    chmod 755 "$top/bin/$name"
done
cp "$here"/*.sh "$here"/peer.py "$here"/README.md "$top/benchmarks/gpu/"
cp -r "$here/shapes" "$top/benchmarks/gpu/"
tar -C "$work" -czf "$1" cadtrain-gpu
echo "$1: $(du -h "$1" | cut -f1), $(wc -l <"$work/libraries") libraries$([ -z "$lean" ] || echo ', without cuBLASLt and NCCL')"
