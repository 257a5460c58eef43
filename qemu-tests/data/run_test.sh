#!/bin/sh
# cargo runs each test program by this. Where we are not root ourselves, those that make namespaces, mounts and devices must be;
# the others leave nothing of root's behind. sudo has a PATH of its own, and an ordinary user's lacks the system's tools.
set -eu
case ${1##*/} in
hosted-* | namespaces-*)
    # They wait for others most of the time: of a processor these take a tenth each.
    : "${RUST_TEST_THREADS:=$(($(nproc) * 4))}"
    export RUST_TEST_THREADS
    ;;
esac
[ "$(id -u)" != 0 ] || exec "$@"
PATH=$PATH:/usr/sbin:/sbin
export PATH
case $CARGO_PKG_NAME in
yado-sys | yado-image | yado-init | yado-container | yado-netd | yado-updater)
    exec sudo -E env "PATH=$PATH" "LD_LIBRARY_PATH=${LD_LIBRARY_PATH-}" "$@"
    ;;
*)
    exec "$@"
    ;;
esac
