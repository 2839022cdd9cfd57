# Tests with limits that only RabbitMQ 4 has by default: quorum queues drop messages that went back to them too often,
# and a message may have at most 16 MiB. Sourced by script/test-deb.

LIMITS_LOG=/var/log/tef-manager/limits.log
RESTARTS=25 # more than the twenty times that a message may go back

reach_limits() {
    say "$RELEASE: RabbitMQ's limits"
    inside rabbitmqctl version | grep -q '^[4-9]' || { say "$RELEASE: its RabbitMQ has no such limits"; return; }
    manager_with_limits
    keep_what_goes_back 60 "a disk that is full" 'No space left on device' fill_disk free_disk
    # A single task: of several, a different one would go back each time.
    keep_what_goes_back 1 "writes that are refused" 'refused for a test' refuse_writes allow_writes
    send_large_ones
    inside systemctl stop tef-manager@limits
    check "the other managers have outlived all that" until_has "$(property StatusText 'tef-manager tef-manager@second')" 'active, running' 60
}

# Another manager, in a vhost with default quorum queues, with its database on a small disk.
manager_with_limits() {
    inside sh -c 'cat >/root/limits.py' <"$ROOT/script/broker_limits.py"
    inside sh -c 'cat >/root/limits' <<-'END'
	rabbitmqctl add_vhost limits --default-queue-type quorum
	rabbitmqctl set_permissions -p limits tef '.*' '.*' '.*'
	mkdir /srv/small
	mount -t tmpfs -o size=64m tmpfs /srv/small
	chown postgres: /srv/small
	echo "create tablespace small location '/srv/small'" | runuser -u postgres -- psql
	runuser -u postgres -- createdb --owner tef --tablespace small small
	cd /etc/tef-manager
	cp -p database_prod.yml database_dev.yml
	sed -i 's/^database: .*/database: small/' database_dev.yml
	cp -p tef-manager.ini limits.ini
	sed -i 's/^env = .*/env = dev/; s|^\(amqp-url = .*\)/$|\1/limits|; /^http =/d; /^message-limit =/d' limits.ini
	printf '%s\n' 'http = tcp:8092:interface=127.0.0.1' 'message-limit = 67108864' >>limits.ini
	systemctl start tef-manager@limits
	END
    check "a manager has quorum queues and a small disk" inside sh -eux /root/limits
    check "… and is active" until_has "$(property StatusText tef-manager@limits)" 'active, running'
    check "its queue has the limits that RabbitMQ comes with" is \
        "rabbitmqctl -q list_queues -p limits --no-table-headers name type policy | grep 'tef.dev.manager[[:space:]]' | xargs" \
        'tef.dev.manager quorum'
    check "RabbitMQ drops what goes back too often" limits dropped
}

limits() { inside python3 /root/limits.py "$@"; }

# While a manager can write nothing and is restarted again and again, RabbitMQ keeps all messages.
keep_what_goes_back() {
    local count=$1 what=$2 said=$3 begin=$4 end=$5 number
    "$begin"
    check "tasks are sent in spite of $what" limits send "$count"
    check "the log has the reason" until_has "tail -n 50 $LIMITS_LOG" "$said" 60
    for number in $(seq "$RESTARTS"); do
        restart_and_fail "$said" || die "$RELEASE: restart $number in spite of $what"
    done
    "$end"
    check "all tasks are there after $what and $RESTARTS restarts" limits receive "$count"
}

restart_and_fail() {
    inside systemctl stop tef-manager@limits
    inside systemctl reset-failed "tef-manager@*" # a service may be started more often than it may fail
    inside truncate --size=0 "$LIMITS_LOG"
    inside systemctl start --no-block tef-manager@limits # which ends when it is active
    until_has "cat $LIMITS_LOG" "$1" 60
}

fill_disk() { inside sh -c 'dd if=/dev/zero of=/srv/small/filled bs=64k 2>/dev/null || dd if=/dev/zero bs=1k 2>/dev/null >>/srv/small/filled || true'; }
free_disk() { inside rm /srv/small/filled; }

# With a rule that the manager's own probe does not trigger.
refuse_writes() {
    small <<-'END'
	create function refuse() returns trigger language plpgsql as $$
	begin
	    raise exception 'refused for a test' using errcode = '53100';
	end $$;
	create trigger refuse before insert on tefmanager_dev_tasks for each row when (new.guid <> 'probe') execute function refuse();
	END
}
allow_writes() { small <<<'drop function refuse cascade;'; }
small() { inside runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 small; }

# Tasks as large as RabbitMQ accepts, and larger ones from a time when it accepted more.
send_large_ones() {
    inside truncate --size=0 "$LIMITS_LOG"
    check "a task of 16 MiB reaches its worker, byte for byte" limits large
    check "RabbitMQ takes more, as older ones do" take_more
    check "larger tasks are taken in" limits send 3 20000000
    check "… all of them" until_has "cat $LIMITS_LOG" "TASK_ACCEPTED.*$(inside tail -n 1 /root/limits-sent)" 60
    check "RabbitMQ takes less again" take_less
    check "the worker does younger tasks" limits others 100
    check "the larger ones are held back, with RabbitMQ's reason" until_has \
        "grep -c 'TASK_CANNOT_RUN|.*message size 20000000 is larger than' $LIMITS_LOG" '^3$' 60
    check "no leadership was lost" is "grep -c 'LEADERSHIP_LOST' $LIMITS_LOG" 0
    check "RabbitMQ takes more once more" take_more
    check "they are done" limits receive 3
}
take_more() { inside sh -ec 'echo "max_message_size = 134217728" >>/etc/rabbitmq/rabbitmq.conf; systemctl restart rabbitmq-server'; }
take_less() { inside sh -ec 'sed -i /^max_message_size/d /etc/rabbitmq/rabbitmq.conf; systemctl restart rabbitmq-server'; }
