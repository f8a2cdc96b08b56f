#!/bin/sh
# local.sh [flags…]: installs the Debian packages that are missing, builds, and runs the main job on this machine. Without flags:
# cadtrain.yaml of the current directory, or the embedded demo. NP: ranks, 2 unless told. Its last lines say where the model, the metrics
# and the report lie. Ctrl-C (or TERM): the step is finished, a checkpoint written, exit code 75; a second one ends it at once.
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
. "$root/jobs/setup.sh"
umask 077
# shellcheck disable=SC2086
setup_packages $BUILD_PACKAGES
setup_mpi
make -s -C "$root" -j"$(nproc)" >&2 || exit 2

# mpirun kills its ranks a second after INT or TERM, too soon for a checkpoint; USR1 it hands on. In a session of its own it does not see the Ctrl-C.
setsid mpirun -np "${NP:-2}" "$root/build/cadtrain" "$@" &
pid=$!
signal=USR1
trap 'kill -$signal $pid; signal=TERM' INT TERM
wait $pid
code=$?
while [ $code -gt 128 ] && kill -0 $pid 2>/dev/null; do # a signal ended the waiting, not the job
    wait $pid
    code=$?
done
exit $code
