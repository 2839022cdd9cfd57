# A Debian in a container, in the folder $DEBIAN, with $WORK for other files. Sourced by script/test-deb.

# Seconds within which a Debian must boot or shut down.
BOOT_LIMIT=${BOOT_LIMIT:-120}

# Run a command in it while it is not booted, with our network and the variables for pip and apt.
offline() {
    local variable options=()
    for variable in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST http_proxy https_proxy no_proxy; do
        [ -z "${!variable:-}" ] || options+=("--setenv=$variable=${!variable}")
    done
    [ -z "${PIP_CERT:-}" ] || options+=("--bind-ro=$PIP_CERT:/mnt/pip-cert" --setenv=PIP_CERT=/mnt/pip-cert)
    systemd-nspawn --quiet --register=no --keep-unit --pipe --directory "$DEBIAN" --setenv=DEBIAN_FRONTEND=noninteractive \
        "${options[@]}" "$@" 2> >(grep -v 'disk file system under' >&2)
}

# Run a command in it while it is booted.
inside() {
    nsenter --target "$INIT" --mount --uts --ipc --net --pid --cgroup --root --wd \
        env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive "$@"
}

# Start systemd and wait until everything is up, at most BOOT_LIMIT; return 1 if systemd can't run.
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

# Print the id of the container's first process: the child of nspawn in another namespace, because another child
# only creates the container and ends.
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

# Ask its services to stop, and kill those that don't.
shut_down() {
    [ -n "${NSPAWN:-}" ] || return 0
    local end=$((SECONDS + BOOT_LIMIT))
    kill -TERM "$NSPAWN" 2>/dev/null || true
    while kill -0 "$NSPAWN" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.2; done
    # The container's processes would outlive nspawn.
    if kill -0 "$NSPAWN" 2>/dev/null; then kill -KILL "$NSPAWN" ${INIT:+"$INIT"} 2>/dev/null || true; fi
    wait "$NSPAWN" 2>/dev/null || true
    NSPAWN=
}
