# What the scripts share: Debian packages, the virtual environment, and the project in it. For bash; source it after
# `set -euo pipefail`.
#
# PYTHON  the interpreter for the virtual environment (default: python3)
# VENV    the virtual environment (default: .venv in the checkout)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python3}
VENV=${VENV:-$ROOT/.venv}

say() { printf '== %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "neither root nor sudo: please run as root: $*"
    fi
}

# --- Debian packages ---------------------------------------------------------------------------

any_program() {
    local path
    for path in "$@"; do
        [ -x "$path" ] && return
    done
    return 1
}

# Print the Debian packages whose programs are missing in the places where the sandbox looks.
missing_packages() {
    any_program /usr/lib/rabbitmq/bin/rabbitmq-server || echo rabbitmq-server
    any_program /usr/lib/postgresql/*/bin/postgres || echo postgresql
    any_program /usr/bin/etcd /usr/local/bin/etcd || echo etcd-server
    if ! command -v "$PYTHON" >/dev/null; then
        [ "$PYTHON" = python3 ] || die "$PYTHON (from \$PYTHON) not found"
        echo python3 python3-venv
    elif ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        echo python3-venv
    fi
}

# Print the services that installing a package would start, unless it is installed already.
services_of() {
    is_installed "$1" && return
    case $1 in
        rabbitmq-server)
            echo rabbitmq-server.service
            is_installed erlang-base || echo epmd.service epmd.socket
            ;;
        postgresql) echo postgresql.service ;;
        pgbouncer) echo pgbouncer.service ;;
        etcd-server) echo etcd.service ;;
    esac
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Install packages without leaving unwanted services running: the sandbox only needs the programs.
install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install what these Debian packages bring: $*"
    local package services=()
    for package in "$@"; do
        # shellcheck disable=SC2207 # names of units have no blanks
        services+=($(services_of "$package"))
    done
    say "Installing Debian packages: $* (their services stay off)"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        die "neither root nor sudo: please run as root: apt-get install --no-install-recommends $*"
    as_root apt-get update -qq
    keep_off "${services[@]}"
    local status=0
    # RUNLEVEL=1 keeps invoke-rc.d from starting services on machines without systemd.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >&2 || status=$?
    leave_disabled "${services[@]}"
    return $status
}

has_systemd() { [ -d /run/systemd/system ]; }

keep_off() {
    [ $# = 0 ] || ! has_systemd || as_root systemctl --quiet --runtime mask "$@"
}

leave_disabled() {
    [ $# -gt 0 ] && command -v systemctl >/dev/null || return 0
    ! has_systemd || as_root systemctl --quiet --runtime unmask "$@"
    as_root systemctl --quiet disable "$@" 2>/dev/null || true # one of them may not have come
}

# Unpack packages into the virtual environment, unless they are there already: for programs that would install a mail
# server or cron too, or that would start by themselves after installation.
unpack_packages() {
    local package folder missing=()
    for package in "$@"; do
        [ -e "$VENV/debian/usr/share/doc/$package" ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "Unpacking Debian packages into $VENV/debian: ${missing[*]}"
    as_root apt-get update -qq
    folder=$(mktemp -d)
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" "${missing[@]}")
    for package in "$folder"/*.deb; do
        dpkg -x "$package" "$VENV/debian"
    done
    rm -rf "$folder"
}

# --- Python ------------------------------------------------------------------------------------

pip_install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

# Create the virtual environment with everything that the project and the given extras require, unless it exists for
# the same Python, the same requirements, and at least these extras.
make_venv() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$PYTHON is older than Python 3.11"
    local stamp
    stamp=$("$PYTHON" -VV; cd "$ROOT"; sha256sum setup.cfg pyproject.toml)
    is_stamped "$stamp" "$@" && return
    say "Making a virtual environment in $VENV"
    "$PYTHON" -m venv --clear "$VENV"
    pip_install 'setuptools >= 64' wheel
    install_copy "$ROOT" "${*:+[$(IFS=,; echo "$*")]}"
    local extra
    for extra in base "$@"; do
        echo "$stamp" >"$VENV/$extra.stamp"
    done
}

is_stamped() {
    local stamp=$1 extra
    shift
    for extra in base "$@"; do
        [ "$(cat "$VENV/$extra.stamp" 2>/dev/null)" = "$stamp" ] || return 1
    done
}

# Install the checkout into the virtual environment, unless it is installed there unchanged.
#
# It is a normal installation, repeated when a file has changed. An editable one would not put the plugin into
# twisted.plugins, where twistd looks for it.
install_project() {
    local stamp
    stamp=$(cd "$ROOT" && sources | sort -z | xargs -0 sha256sum)
    [ "$(cat "$VENV/sources.stamp" 2>/dev/null)" = "$stamp" ] && return
    say "Installing tef-manager into $VENV"
    install_copy "$ROOT" '' --no-deps --force-reinstall
    echo "$stamp" >"$VENV/sources.stamp"
}

# Install from a copy: setuptools would leave a build folder in the checkout, and later install files from it that
# have been deleted since.
install_copy() {
    local from=$1 extras=$2 copy
    shift 2
    copy=$(mktemp -d)
    (cd "$from" && sources | xargs -0 cp --parents -t "$copy")
    pip_install --no-build-isolation "$@" "$copy$extras" || { rm -rf "$copy"; return 1; }
    rm -rf "$copy"
}

# Print the files of the package, each followed by a NUL.
sources() {
    find setup.cfg pyproject.toml README.md LICENSE tefmanager twisted_plugin \
        -name __pycache__ -prune -o -type f ! -name dropin.cache -print0 2>/dev/null || true
}
