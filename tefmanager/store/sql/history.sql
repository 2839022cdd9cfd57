-- name: finished
-- Tell which of the guids $1 are in history.
select distinct guid from {t}history where guid = any ($1::text[]);

-- name: load_history
-- Read the tasks in history of the guids $1, of each guid the last one.
select distinct on (guid)
    id, guid, task_type, priority, resources, suite, time_limit, date_part('epoch', received),
    attempts, outcome, date_part('epoch', finished_at)
from {t}history
where guid = any ($1::text[])
order by guid, id desc;

-- name: suite_ends
-- Count the tasks in history of the suites $1, by suite and outcome.
select suite, outcome, count(*)
from {t}history
where suite = any ($1::text[])
group by suite, outcome;

-- name: forget
-- Remove up to $2 tasks that ended before unix time $1, oldest first, and their attempts; tell how many.
with old as (
    select id from {t}history
    where finished_at < to_timestamp($1::float8)
    order by finished_at, id
    limit $2::integer
), gone as (
    delete from {t}history as h using old where h.id = old.id returning h.id
), trace as (
    delete from {t}attempts as a using gone where a.task_id = gone.id
)
select count(*) from gone;
