-- name: finished
-- Return which of the guids $1 are in history.
select guid from unnest($1::text[]) as asked (guid)
where exists (select from {t}history as h where h.guid = asked.guid);

-- name: load_history
-- Read the tasks in history with the guids $1, as load_past does; only the last one of each guid.
select
    h.id, h.guid, h.task_type, h.priority, h.resources, h.suite, h.time_limit, date_part('epoch', h.received),
    h.attempts, h.outcome, date_part('epoch', h.finished_at), h.result, h.message,
    h.attempt, h.worker, date_part('epoch', a.dispatched), date_part('epoch', a.started)
from (select distinct guid from unnest($1::text[]) as each (guid)) as asked
cross join lateral (
    select * from {t}history as its where its.guid = asked.guid order by its.id desc limit 1
) as h
left join {t}attempts as a on a.id = h.attempt
order by h.guid;

-- name: suite_ends
-- Count the tasks in history of the suites $1 by ending.
select guid, ending, tasks from {t}suite_ends where guid = any ($1::text[]);

-- name: load_dead
-- Read the last $1 dead tasks that are not settled, each with its last attempt; count at most $2.
with dead as (
    select
        id, guid, task_type, priority, resources, suite, time_limit, date_part('epoch', received) as received,
        attempts, outcome, date_part('epoch', finished_at) as finished_at
    from {t}history
    where outcome = 'dead' and not settled and not again
    order by id desc
    limit $1::integer
), counted as materialized (
    select count(*) as total from (
        select from {t}history where outcome = 'dead' and not settled and not again limit $2::integer
    ) as listed
)
select
    d.id, d.guid, d.task_type, d.priority, d.resources, d.suite, d.time_limit, d.received,
    d.attempts, d.outcome, d.finished_at, a.worker, a.outcome, counted.total
from dead as d cross join counted
left join lateral (
    select worker, outcome from {t}attempts where task_id = d.id order by id desc limit 1
) as a on true
order by d.id desc;

-- name: dead_messages
-- Read the messages of the dead tasks with the guids $1 that are not settled. Begin no further message after $2 bytes.
select id, guid, body, properties from (
    select
        id, guid, body, properties,
        sum(octet_length(body)) over (order by id) - octet_length(body) as before
    from {t}history
    where outcome = 'dead' and not settled and not again and guid = any ($1::text[])
) as each
where before <= $2::bigint;

-- name: copies
-- Read the first $1 dead tasks whose copy must be sent, searched for or removed.
select id, guid, attempts, copy, settled or again
from {t}history
where copy is not null and (copy <> 'there' or settled or again)
order by id
limit $1::integer;

-- name: write_copies
-- Write the states of dead tasks' copies; $1: ids and states. A due copy of a settled task is not sent any more.
update {t}history as h
set copy = case when r.copy = 'due' and (h.settled or h.again) then null else r.copy end
from json_to_recordset($1::json) as r (id bigint, copy text)
where h.id = r.id and h.copy is not null;

-- name: settle
-- Settle the dead tasks with the guids $1; return those that were not settled before.
with settled as (
    update {t}history set settled = true
    where outcome = 'dead' and not settled and guid = any ($1::text[])
    returning guid
)
select distinct guid from settled;

-- name: forget
-- Remove up to $2 tasks that ended before unix time $1, oldest first, with their attempts; return how many. A dead task stays
-- until it is settled, or was submitted again, and until the dead queue has no copy of it.
with old as (
    select id from {t}history
    where finished_at < to_timestamp($1::float8)
        and (outcome <> 'dead' or settled or again)
        and copy is null
    order by finished_at, id
    limit $2::integer
), gone as (
    delete from {t}history as h using old where h.id = old.id
    returning h.id, h.suite, coalesce(h.result, h.outcome) as ending
), trace as (
    delete from {t}attempts as a using gone where a.task_id = gone.id
), less as (
    select suite as guid, ending, count(*) as tasks from gone where suite is not null group by suite, ending
), fewer as (
    update {t}suite_ends as s set tasks = s.tasks - less.tasks
    from less
    where s.guid = less.guid and s.ending = less.ending and s.tasks > less.tasks
), none as (
    delete from {t}suite_ends as s using less
    where s.guid = less.guid and s.ending = less.ending and s.tasks <= less.tasks
)
select count(*) from gone;
