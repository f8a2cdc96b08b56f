#!/bin/sh
# check.sh [--device cuda:0] [--dry] [--quick]: are the GPU's kernels right? The operation table on the device; then compute-sanitizer's memcheck and
# racecheck over it, where that tool is (--quick: not). One line a check; ends with 1 if one failed. Needs nothing but what bundle.sh brings.
# --dry: the table alone on the emulated grid.
here=$(cd "$(dirname "$0")" && pwd)
device=cuda:0 dry= quick=
while [ $# -gt 0 ]; do
    case $1 in
        --dry) dry=1 device=emulated ;;
        --quick) quick=1 ;;
        --device)
            shift
            device=${1:?a value is missing}
            ;;
        *)
            sed -n '2,4s/^# //p' "$0" >&2
            exit 2
            ;;
    esac
    shift
done
. "$here/programs.sh"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

# check NAME COMMAND…
check() {
    name=$1
    shift
    if CADTRAIN_TEST_DEVICE=$device "$@" >"$log" 2>&1; then echo "ok $name"; else
        echo "not ok $name (ended with $?)"
        tail -n 25 "$log" | sed 's/^/  # /'
        failed=1
    fi
}

check device "$bench" "$device" what
check operations "$table"
tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$dry$quick" ] || [ -z "$tool" ]; then
    echo "skip memcheck, racecheck: ${tool:+not asked for}${tool:-compute-sanitizer is not on this machine}" | sed 's|not asked for/.*|not asked for|'
else
    # the dynamic loader of a bundle is what is started: the tool follows it
    check memcheck "$tool" --target-processes all --tool memcheck --leak-check no --error-exitcode 9 "$table"
    check racecheck "$tool" --target-processes all --tool racecheck --error-exitcode 9 "$table"
fi
exit $failed
