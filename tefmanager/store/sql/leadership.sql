-- name: begin_leadership
-- Begin a leadership with a new life and a number above all earlier ones and $1. Later ids are above all in the rows; the last
-- 16 lives are remembered.
update {t}manager
set epoch = greatest(epoch, $1::bigint) + 1,
    task_ids = greatest(
        task_ids,
        1 + (select max(id) from {t}tasks),
        1 + (select max(id) from {t}history),
        1 + (select max(task_id) from {t}attempts)
    ),
    attempt_ids = greatest(attempt_ids, 1 + (select max(id) from {t}attempts)),
    lives = (md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text) || lives)[1:16]
returning epoch, turns, identity, lives;

-- name: make_row
-- Create the manager's row if it is missing, with the grid's identity $1 if that is known. Its calendar begins at the last end in history.
insert into {t}manager (identity, calendar)
values (
    coalesce($1::text, md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text)),
    greatest(
        (select max(finished_at) from {t}history where outcome <> 'dead' or settled or again),
        (
            select finished_at from {t}history
            where outcome = 'dead' and not settled and not again order by id desc limit 1
        )
    )
)
on conflict do nothing;

-- name: turn
-- Fence and begin a turn of leadership $1, which has had $6 turns; write the other values that are not null.
with turn as (
    update {t}manager
    set turns = turns + 1,
        state = coalesce($2::text, state),
        task_ids = coalesce($3::bigint, task_ids),
        attempt_ids = coalesce($4::bigint, attempt_ids),
        state_since = coalesce(to_timestamp($5::float8), state_since),
        calendar = coalesce(to_timestamp($7::float8), calendar)
    where epoch = $1::bigint and turns = $6::bigint
    returning 1
)
select {t}expect('TEF01', 'leadership ' || $1::bigint, 1, (select count(*) from turn));

-- name: look
-- Fail unless the manager's row is as leadership $1 left it after turn $2.
select {t}expect(
    'TEF01',
    'leadership ' || $1::bigint,
    1,
    (select count(*) from {t}manager where epoch = $1::bigint and turns = $2::bigint)
);

-- name: probe
-- Write a task with the body $1 (base64) and all else that a turn writes, in a transaction that is rolled back: this shows
-- whether there is room and whether we have the rights. Rights are also checked where nothing is written.
with task as (
    insert into {t}tasks (id, guid, task_type, priority, resources, received, state, attempts, avoid, body)
    values (-1, 'probe', 'probe', 1, array[]::text[], now(), 'waiting', 0, array[]::text[], decode($1::text, 'base64'))
), history as (
    insert into {t}history (id, guid, task_type, priority, resources, received, attempts, outcome, finished_at, body)
    values (-1, 'probe', 'probe', 1, array[]::text[], now(), 0, 'stopped', now(), '')
), attempt as (
    insert into {t}attempts (id, task_id, guid, number, worker, dispatched, ended, outcome, unresolved)
    values (-1, -1, 'probe', 1, 'probe', now(), now(), 'completed', false)
), changed as (
    update {t}tasks set attempts = attempts where id = -1
), settled as (
    update {t}history set settled = settled where false
), gone as (
    delete from {t}history where false
), resolved as (
    update {t}attempts set unresolved = unresolved where false
), done as (
    delete from {t}attempts where false
), worker as (
    insert into {t}workers as w (name, worker_type, exchange_name, status, since, heard)
    select name, worker_type, exchange_name, status, since, heard from {t}workers where false
    on conflict (name) do update set heard = excluded.heard
), absent as (
    delete from {t}workers where false
), paused as (
    insert into {t}paused_suites (guid) select guid from {t}paused_suites where false on conflict (guid) do nothing
), readied as (
    delete from {t}paused_suites where false
), stopped as (
    insert into {t}stopped_suites as s (guid, below, spared, commands, stopped, over)
    select guid, below, spared, commands, stopped, over from {t}stopped_suites where false
    on conflict (guid) do update set over = excluded.over
), forgotten as (
    delete from {t}stopped_suites where false
), counted as (
    insert into {t}suite_ends as s (guid, ending, tasks)
    select guid, ending, tasks from {t}suite_ends where false
    on conflict (guid, ending) do update set tasks = s.tasks
), uncounted as (
    delete from {t}suite_ends where false
)
delete from {t}tasks where id = -1;
