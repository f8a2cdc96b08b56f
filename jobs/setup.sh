# shellcheck shell=sh
# Sourced by jobs/local.sh and test/run.sh: Debian packages and the environment of Open MPI.

# shellcheck disable=SC2034
BUILD_PACKAGES="gcc g++ make pkg-config openmpi-bin libopenmpi-dev libhdf5-dev libyaml-dev libjansson-dev libpcre2-dev
libutf8proc-dev libxxhash-dev zlib1g-dev libdnnl-dev"
# shellcheck disable=SC2034
TEST_PACKAGES="libcmocka-dev"

missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$package"
    done
}

# setup_packages NAME…: installs what is missing as root or through sudo; elsewhere prints the list and stops with 6.
setup_packages() {
    command -v dpkg-query >/dev/null || return 0
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    root=
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "these Debian packages are missing: $missing" >&2
            echo "ask an administrator for: apt-get install --no-install-recommends $missing" >&2
            exit 6
        fi
        root="sudo -n"
    fi
    echo "installing: $missing"
    # shellcheck disable=SC2086
    { $root apt-get -o DPkg::Lock::Timeout=300 -qq update &&
        $root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends $missing; } >/dev/null || {
        echo "installing failed; missing: $missing" >&2
        exit 6
    }
}

# More ranks than cores are allowed, and root (containers). A node that is cut off is noticed within ten seconds (Open MPI's own
# settings need eight minutes). One or two ranks would be bound to a core each: their threads need the others.
setup_mpi() {
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
    export OMPI_MCA_oob_tcp_keepalive_time=5 OMPI_MCA_oob_tcp_keepalive_intvl=2 OMPI_MCA_oob_tcp_keepalive_probes=3
}
