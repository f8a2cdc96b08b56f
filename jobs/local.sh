#!/bin/sh
# local.sh [flags…]: installs the Debian packages that are missing, builds, and runs the main job on this machine. Without flags:
# cadtrain.yaml of the current directory, or the embedded demo. NP: ranks, 2 unless told. Its last lines say where the model, the metrics
# and the report lie.
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
. "$root/jobs/setup.sh"
umask 077
# shellcheck disable=SC2086
setup_packages $BUILD_PACKAGES
setup_mpi
make -s -C "$root" -j"$(nproc)" >&2 || exit 2
exec mpirun -np "${NP:-2}" "$root/build/cadtrain" "$@"
