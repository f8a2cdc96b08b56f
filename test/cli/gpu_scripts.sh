#!/bin/sh
# benchmarks/gpu, without a GPU: measuring, checking and bundling do all that they will do there, with tiny sizes on the emulated grid; what the bundle
# holds starts where the libraries of this system are not to be seen.
. ./test/tools/e2e.sh
mode=${MODE:-release} cc=${CC:-gcc}
OUT=$repository/build/$mode-$cc
export OUT
make -C "$repository" CC="$cc" MODE="$mode" "build/$mode-$cc/benchmarks/gpu/gpu" "build/$mode-$cc/test/unit/device/test_ops_emulated" >"$log" 2>&1 || {
    say the_measuring_program_is_built "the build failed:"
    exit 1
}

reason=
sh "$repository/benchmarks/gpu/run.sh" --dry --no-peer --output "$scratch/gpu" >"$log" 2>&1 || reason="exit code $?;"
for what in device matrix attention step generate codes moments; do grep -q "\"what\": \"$what\"" gpu.json || reason="$reason no $what;"; done
for how in full paged offload lora uneven qlora sft; do grep -q "\"how\": \"$how\".*\"shares\": {\"" gpu.json || reason="$reason no step $how with its shares;"; done
grep -q '^"left_out": \["the operation table: a dry run"\],$' gpu.json || reason="$reason left out: $(sed -n 's/^"left_out": //p' gpu.json)"
grep -qiE '[^a-z](nan|inf)[^a-z]' gpu.json && reason="$reason numbers that are none;"
! command -v python3 >/dev/null || python3 -m json.tool gpu.json >/dev/null 2>>"$log" || reason="$reason no JSON;"
grep -q '^- dry.json full: matmul' gpu.md || reason="$reason the table does not say where the time goes;"
say measuring_as_on_a_gpu "$reason"

reason=
sh "$repository/benchmarks/gpu/check.sh" --dry --quick >"$log" 2>&1 || reason="exit code $?"
grep -q '^ok device' "$log" && grep -q '^ok two_ranks_on_one_device' "$log" || reason="$reason not all was checked"
say checking_as_on_a_gpu "$reason"

# In a name space of its own every library that came along in the bundle, but those of the C library that the shell needs, is covered by an empty file.
reason=
sh "$repository/benchmarks/gpu/bundle.sh" "$scratch/bundle.tar.gz" >"$log" 2>&1 && tar xzf bundle.tar.gz || reason="exit code $?"
say bundling "$reason"
if unshare -m true 2>/dev/null; then
    cat >hidden.sh <<'END'
for name in cadtrain-gpu/lib/*; do
    case $name in */ld-linux* | */libc.so* | */libm.so* | */libselinux* | */libpcre2-8* | */libtinfo*) continue ;; esac
    for l in /lib/*/"${name##*/}" /usr/lib/*/"${name##*/}" /usr/local/lib/"${name##*/}" /usr/local/cuda/lib64/"${name##*/}"; do
        [ ! -f "$l" ] || mount --bind /dev/null "$(readlink -f "$l")" || exit 9
    done
done
"$1" version >/dev/null 2>&1 && echo "the system's libraries are still seen"
cadtrain-gpu/bin/cadtrain version && cadtrain-gpu/bin/gpu emulated matrix 32
END
    reason=
    unshare -m sh hidden.sh "$cadtrain" >"$log" 2>&1 || reason="exit code $?"
    grep -q '"what": "matrix"' "$log" || reason="$reason no figure"
    grep -q 'still seen' "$log" && reason="$reason nothing was hidden"
    say a_bundle_needs_no_libraries_of_the_machine "$reason"
else echo "skip a_bundle_needs_no_libraries_of_the_machine this user cannot have a name space of its own"; fi
exit $fails
