# A Debian in a container: in the folder $DEBIAN, with $WORK for files beside it. To be sourced by script/test-deb.

# Seconds within which a Debian has to boot, or to shut down.
BOOT_LIMIT=${BOOT_LIMIT:-120}

# A command in it while it is not booted, with our network and the variables that pip and apt heed.
offline() {
    local variable options=()
    for variable in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST http_proxy https_proxy no_proxy; do
        [ -z "${!variable:-}" ] || options+=("--setenv=$variable=${!variable}")
    done
    [ -z "${PIP_CERT:-}" ] || options+=("--bind-ro=$PIP_CERT:/mnt/pip-cert" --setenv=PIP_CERT=/mnt/pip-cert)
    systemd-nspawn --quiet --register=no --keep-unit --pipe --directory "$DEBIAN" --setenv=DEBIAN_FRONTEND=noninteractive \
        "${options[@]}" "$@" 2> >(grep -v 'disk file system under' >&2)
}

# A command in it while it runs.
inside() {
    nsenter --target "$INIT" --mount --uts --ipc --net --pid --cgroup --root --wd \
        env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive "$@"
}

# Starts systemd and waits until all is up, for BOOT_LIMIT at most; returns 1 where systemd can't be had.
boot() {
    local end=$((SECONDS + BOOT_LIMIT)) state=nothing
    systemd-nspawn --quiet --register=no --keep-unit --private-network --directory "$DEBIAN" --boot \
        </dev/null >"$WORK/boot.log" 2>&1 &
    NSPAWN=$!
    until [ "$state" = running ] || [ "$state" = degraded ]; do
        kill -0 "$NSPAWN" 2>/dev/null || { tail -n 30 "$WORK/boot.log" >&2; return 1; }
        [ "$SECONDS" -lt "$end" ] || not_booted "the Debian has not booted within $BOOT_LIMIT s; found: $state, expected: running"
        sleep 0.5
        INIT=$(init_of "$NSPAWN") || continue
        state=$(inside timeout 10 systemctl is-system-running 2>/dev/null || true)
    done
}

# The first process of a container. Of nspawn's own children, one makes the container and goes, so that only
# one in another namespace is it.
init_of() {
    local child
    for child in $(pgrep -P "$1"); do
        [ "$(readlink "/proc/$child/ns/pid")" = "$(readlink /proc/self/ns/pid)" ] || { echo "$child"; return; }
    done
    return 1
}

not_booted() {
    tail -n 30 "$WORK/boot.log" >&2
    [ -z "${INIT:-}" ] || inside timeout 10 systemctl list-jobs --no-pager >&2 || true
    die "$RELEASE: $1; its last output is above"
}

# Its services are told to end; one that does not is ended.
shut_down() {
    [ -n "${NSPAWN:-}" ] || return 0
    local end=$((SECONDS + BOOT_LIMIT))
    kill -TERM "$NSPAWN" 2>/dev/null || true
    while kill -0 "$NSPAWN" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.2; done
    # What runs in the container would outlive nspawn.
    if kill -0 "$NSPAWN" 2>/dev/null; then kill -KILL "$NSPAWN" ${INIT:+"$INIT"} 2>/dev/null || true; fi
    wait "$NSPAWN" 2>/dev/null || true
    NSPAWN=
}
