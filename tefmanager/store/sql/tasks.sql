-- name: accept_tasks
-- Write new tasks with their bodies; $1: their rows. Dead tasks with the same guids count as submitted again.
with r as (
    select * from json_to_recordset($1::json) as r (
        id bigint, guid text, task_type text, priority float8, resources text[], suite text, time_limit float8,
        received float8, state text, attempts integer, attempt bigint, worker text, dispatched float8,
        started float8, avoid text[], doubt text, short_since float8, tried boolean, shun text[], verdict text,
        body text, properties text
    )
), again as (
    update {t}history as h set again = true
    from r
    where h.guid = r.guid and h.outcome = 'dead' and not h.settled and not h.again
)
insert into {t}tasks (
    id, guid, task_type, priority, resources, suite, time_limit, received,
    state, attempts, attempt, worker, dispatched, started, avoid, doubt, short_since, tried, shun, verdict,
    body, properties
)
select
    r.id, r.guid, r.task_type, r.priority, r.resources, r.suite, r.time_limit, to_timestamp(r.received),
    r.state, r.attempts, r.attempt, r.worker, to_timestamp(r.dispatched), to_timestamp(r.started), r.avoid,
    r.doubt, to_timestamp(r.short_since), r.tried, r.shun, r.verdict, decode(r.body, 'base64'),
    decode(r.properties, 'base64')
from r;

-- name: update_tasks
-- Write changes of existing tasks; $1: their rows, without what never changes.
with r as (
    select * from json_to_recordset($1::json) as r (
        id bigint, state text, attempts integer, attempt bigint, worker text, dispatched float8,
        started float8, avoid text[], doubt text, short_since float8, tried boolean, shun text[], verdict text
    )
), written as (
    update {t}tasks as t
    set state = r.state,
        attempts = r.attempts,
        attempt = r.attempt,
        worker = r.worker,
        dispatched = to_timestamp(r.dispatched),
        started = to_timestamp(r.started),
        avoid = r.avoid,
        doubt = r.doubt,
        short_since = to_timestamp(r.short_since),
        tried = r.tried,
        shun = r.shun,
        verdict = r.verdict
    from r
    where t.id = r.id
    returning 1
)
select {t}expect('TEF02', 'tasks to change', (select count(*) from r), (select count(*) from written));

-- name: finish_tasks
-- Move tasks to history, and count them by suite; $1: how each ended. If the
-- clock is behind the calendar, the calendar's time counts: otherwise the task would be removed once the clock is right again.
with r as (
    select * from json_to_recordset($1::json) as r (
        id bigint, outcome text, finished_at float8, attempts integer, copy text, result text, message text,
        attempt bigint, worker text
    )
), gone as (
    delete from {t}tasks as t
    using r left join lateral (
        select a.id, a.worker from {t}attempts as a where a.task_id = r.id order by a.id desc limit 1
    ) as last on r.worker is null
    where t.id = r.id
    returning
        t.id, t.guid, t.task_type, t.priority, t.resources, t.suite, t.time_limit, t.received, r.attempts,
        r.outcome,
        greatest(to_timestamp(r.finished_at), (select calendar from {t}manager)), t.body,
        t.properties, r.copy, r.result, r.message,
        case when r.worker is null then last.id else r.attempt end as attempt,
        coalesce(r.worker, last.worker) as worker
), counted as (
    insert into {t}suite_ends as s (guid, ending, tasks)
    select suite, coalesce(result, outcome), count(*)
    from gone
    where suite is not null
    group by suite, coalesce(result, outcome)
    on conflict (guid, ending) do update set tasks = s.tasks + excluded.tasks
), kept as (
    insert into {t}history (
        id, guid, task_type, priority, resources, suite, time_limit, received, attempts,
        outcome, finished_at, body, properties, copy, result, message, attempt, worker, again
    )
    select
        gone.*,
        outcome = 'dead' and exists (select from {t}tasks as t where t.guid = gone.guid and t.id > gone.id)
    from gone
    returning 1
)
select {t}expect('TEF02', 'tasks to finish', (select count(*) from r), (select count(*) from kept));

-- name: bodies
-- Read the messages of tasks, also finished ones; $1: ids, each once. Begin no further message after $2 bytes.
with wanted as materialized (
    select id, octet_length(body) as size from {t}tasks where id = any ($1::bigint[])
    union all
    select id, octet_length(body) from {t}history where id = any ($1::bigint[])
), counted as materialized (
    select {t}expect('TEF02', 'bodies', cardinality($1::bigint[]), (select count(*) from wanted))
), near as materialized (
    select id from (select id, sum(size) over (order by id) - size as before from wanted) as each
    where before <= $2::bigint
)
select near.id, coalesce(t.body, h.body)
from counted cross join near
left join {t}tasks as t on t.id = near.id
left join {t}history as h on h.id = near.id;

-- name: load_tasks
-- Read $2 tasks after id $1, without their bodies.
select
    id, guid, task_type, priority, resources, suite, time_limit, date_part('epoch', received),
    state, attempts, attempt, worker, date_part('epoch', dispatched),
    date_part('epoch', started), avoid,
    doubt, date_part('epoch', short_since), tried, shun, verdict
from {t}tasks
where id > $1::bigint
order by id
limit $2::integer;

-- name: message
-- Read the message of task $1, finished or not, with its properties.
select body, properties from {t}tasks where id = $1::bigint
union all
select body, properties from {t}history where id = $1::bigint;
