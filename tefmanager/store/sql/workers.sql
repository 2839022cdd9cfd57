-- name: write_workers
-- Write new and changed workers; $1: their rows.
insert into {t}workers as w (name, worker_type, exchange_name, status, since, heard)
select
    r.name, r.worker_type, r.exchange_name, r.status, to_timestamp(r.since), to_timestamp(r.heard)
from json_to_recordset($1::json) as r (
    name text, worker_type text, exchange_name text, status text, since float8,
    heard float8
)
on conflict (name) do update
set worker_type = excluded.worker_type,
    exchange_name = excluded.exchange_name,
    status = excluded.status,
    since = excluded.since,
    heard = excluded.heard;

-- name: remove_workers
-- Remove workers by name, if they exist.
delete from {t}workers where name = any ($1::text[]);

-- name: pause_suites
-- Pause suites by guid; a suite that is paused already is no error.
insert into {t}paused_suites (guid) select distinct unnest($1::text[]) on conflict (guid) do nothing;

-- name: ready_suites
-- Pause suites no longer.
delete from {t}paused_suites where guid = any ($1::text[]);

-- name: write_stops
-- Write suites that are being stopped or were stopped; $1: their rows.
insert into {t}stopped_suites as s (guid, below, spared, commands, stopped, over)
select r.suite, r.below, r.spared, r.commands, r.stopped, r.over
from json_to_recordset($1::json) as r (
    suite text, below bigint, spared bigint[], commands integer, stopped bigint, over boolean
)
on conflict (guid) do update
set below = excluded.below,
    spared = excluded.spared,
    commands = excluded.commands,
    stopped = excluded.stopped,
    over = excluded.over;

-- name: forget_stops
-- Forget that suites were stopped.
delete from {t}stopped_suites where guid = any ($1::text[]);

-- name: load_stops
-- Read the suites that are being stopped or were stopped.
select guid, below, spared, commands, stopped, over from {t}stopped_suites order by guid;

-- name: load_manager
-- Read the manager's own row.
select state, task_ids, attempt_ids, date_part('epoch', state_since), date_part('epoch', calendar) from {t}manager;

-- name: load_workers
-- Read the workers.
select name, worker_type, exchange_name, status, date_part('epoch', since), date_part('epoch', heard)
from {t}workers
order by name;

-- name: load_paused
-- Read the paused suites.
select guid from {t}paused_suites;
