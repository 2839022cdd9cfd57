# Replaces systemd where it can't be the first process of a container: runs the unit's command as the unit's user, with
# its environment and as much of its sandbox as is possible without systemd. Sourced by script/test-deb.

# --- in place of systemd -----------------------------------------------------------------------

start_without_systemd() {
    local end=$((SECONDS + BOOT_LIMIT))
    systemd-nspawn --quiet --register=no --keep-unit --private-network --as-pid2 --directory "$DEBIAN" \
        sleep infinity </dev/null >"$WORK/boot.log" 2>&1 &
    NSPAWN=$!
    until INIT=$(init_of "$NSPAWN"); do
        [ "$SECONDS" -lt "$end" ] || not_booted "no container can be had here"
        kill -0 "$NSPAWN" 2>/dev/null || not_booted "no container can be had here"
        sleep 0.2
    done
    services_start_by_hand
    stand_in
}

# apt itself starts the services that it has installed.
services_start_by_hand() {
    inside sh -c 'cat >/root/start-services; chmod +x /root/start-services
        echo "DPkg::Post-Invoke { \"/root/start-services\"; };" >/etc/apt/apt.conf.d/start-services' <<-'END'
	#!/bin/sh
	exec >/dev/null 2>&1 </dev/null
	if [ -x /usr/bin/pg_lsclusters ]; then
	    pg_lsclusters -h | while read -r version name rest; do pg_ctlcluster "$version" "$name" start; done
	fi
	if [ -x /usr/sbin/rabbitmq-server ] && ! rabbitmqctl ping; then
	    rabbitmq-server -detached
	    timeout 60 sh -c 'until rabbitmqctl await_startup; do sleep 1; done'
	fi
	if [ -x /usr/bin/etcd ]; then
	    start-stop-daemon --start --oknodo --background --chuid etcd --exec /usr/bin/etcd -- --data-dir /var/lib/etcd/default
	fi
	exit 0
	END
}

# Do by hand what docs/install.md does with systemctl.
stand_in() {
    inside sh -c 'cat >/usr/local/bin/systemctl; chmod +x /usr/local/bin/systemctl' <<-'END'
	#!/bin/sh -eu
	stop() { start-stop-daemon --stop --oknodo --quiet --retry TERM/20 --pidfile /run/by-hand.pid; }
	case "$*" in
	"restart tef-manager")
	    stop
	    start-stop-daemon --start --background --make-pidfile --pidfile /run/by-hand.pid --startas /root/run-unit
	    timeout 60 sh -c 'until python3 -c "$1" 2>/dev/null; do sleep 0.2; done' - \
	        'import urllib.request as r; r.urlopen("http://127.0.0.1:8090/ready")' ;;
	"stop tef-manager") stop ;;
	*) echo "systemctl can't be had here: $*" >&2; exit 1 ;;
	esac
	END
    inside sh -c 'cat >/root/run-unit; chmod +x /root/run-unit' <<-'END'
	#!/bin/sh -eu
	get() { sed -n "s/^$1=-\\{0,1\\}//p" /lib/systemd/system/tef-manager.service; }
	user=$(get User)
	files=$(get LimitNOFILE)
	prlimit --nofile="$files" true 2>/dev/null || files=$(ulimit -Hn) # more may not be had
	umask "$(get UMask)"
	variables=$(get Environment)
	[ ! -e "$(get EnvironmentFile)" ] || variables="$variables $(grep '^[A-Z]' "$(get EnvironmentFile)" || true)"
	install -d -o "$user" -m "$(get RuntimeDirectoryMode)" "/run/$(get RuntimeDirectory)"
	exec env -i PATH=/usr/sbin:/usr/bin HOME=/nonexistent USER="$user" LOGNAME="$user" $variables \
	    prlimit --nofile="$files" --core="$(get LimitCORE)" \
	    unshare --mount sh -euc 'for place in $1; do mount --bind "$place" "$place"; done
	        mount -o remount,bind,ro /
	        mount -t tmpfs tmpfs /tmp
	        mount -t tmpfs -o mode=000 tmpfs /home
	        mount -t tmpfs -o mode=000 tmpfs /root
	        shift
	        exec "$@"' - "$(get ReadWritePaths)" \
	    setpriv --reuid="$user" --regid="$(get Group)" --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
	    $(get ExecStart)
	END
}

# --- phases ------------------------------------------------------------------------------------

without_systemd() {
    say "$RELEASE: systemd can't run here, so the unit's command is run by hand"
    start_without_systemd
    install_files
    check "its command says in one line what to set" has '/root/run-unit 2>&1 || true' \
        'tef-manager: TEF_AMQP_URL_PROD is not set.*database_prod.yml'
    say "$RELEASE: following docs/install.md"
    set_up
    check "the manager leads" until_has "cat $LOG" 'LEADERSHIP_GAINED'
    check "it is the unit's user" is 'ps -o user:20= -p "$(cat /run/by-hand.pid)"' tef-manager
    check "it has no capabilities, and gets none" is 'grep -hE "^(CapBnd|CapEff|NoNewPrivs)" "/proc/$(cat /run/by-hand.pid)/status" | tr -d "[:alpha:]:\\t" | xargs' \
        '0000000000000000 0000000000000000 1'
    at_work
    check "it ends when it is told to" inside systemctl stop tef-manager
    say "$RELEASE: removing, purging"
    take_away
}
