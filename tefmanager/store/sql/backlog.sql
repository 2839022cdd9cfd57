-- name: count_tasks
-- Count the unfinished tasks, but at most $1.
select count(*) from (select from {t}tasks limit $1::bigint) as counted;

-- name: survey
-- Count the plain tasks by type and resources, and by type and suite; return the first one and its priority.
select
    grouping(suite) = 1, task_type, resources, suite, count(*), max(priority),
    (min(array[-priority, id]))[2]::bigint
from {t}tasks
where state = 'waiting' and attempts = 0 and not tried and cardinality(avoid) = 0
group by grouping sets ((task_type, resources), (task_type, suite));

-- name: others
-- Return the ids of the tasks that are not plain.
select id from {t}tasks where state <> 'waiting' or attempts <> 0 or tried or cardinality(avoid) <> 0;

-- name: load_named
-- Read the tasks with the ids $1, without their bodies.
select
    id, guid, task_type, priority, resources, suite, time_limit, date_part('epoch', received),
    state, attempts, attempt, worker, date_part('epoch', dispatched),
    date_part('epoch', started), avoid,
    doubt, date_part('epoch', short_since), tried, shun, verdict
from {t}tasks
where id = any ($1::bigint[])
order by id;

-- name: load_guids
-- Read the tasks with the guids $1, without their bodies.
select
    id, guid, task_type, priority, resources, suite, time_limit, date_part('epoch', received),
    state, attempts, attempt, worker, date_part('epoch', dispatched),
    date_part('epoch', started), avoid,
    doubt, date_part('epoch', short_since), tried, shun, verdict
from {t}tasks
where guid = any ($1::text[])
order by id;

-- name: load_heads
-- Read the first $5 plain tasks of type $1 and resources $2 of each of the $4 suites after suite $3.
with recursive suites (suite) as (
    (
        select coalesce(t.suite, '')
        from {t}tasks as t
        where t.task_type = $1::text
            and hash_array_extended(t.resources, 0) = hash_array_extended($2::text[], 0)
            and coalesce(t.suite, '') > $3::text
        order by coalesce(t.suite, '')
        limit 1
    )
    union all
    select next.suite
    from suites cross join lateral (
        select coalesce(t.suite, '') as suite
        from {t}tasks as t
        where t.task_type = $1::text
            and hash_array_extended(t.resources, 0) = hash_array_extended($2::text[], 0)
            and coalesce(t.suite, '') > suites.suite
        order by coalesce(t.suite, '')
        limit 1
    ) as next
)
select s.suite, t.*
from (select suite from suites limit $4::integer) as s left join lateral (
    select
        id, guid, task_type, priority, resources, t.suite, time_limit, date_part('epoch', received),
        state, attempts, attempt, worker, date_part('epoch', dispatched),
        date_part('epoch', started), avoid,
        doubt, date_part('epoch', short_since), tried, shun, verdict
    from {t}tasks as t
    where t.task_type = $1::text
        and hash_array_extended(t.resources, 0) = hash_array_extended($2::text[], 0)
        and coalesce(t.suite, '') = s.suite
        and t.resources = $2::text[]
        and t.state = 'waiting' and t.attempts = 0 and not t.tried and cardinality(t.avoid) = 0
    order by -t.priority, t.id
    limit $5::integer
) as t on true
order by s.suite, -t.priority, t.id;

-- name: load_following
-- Read plain tasks of lanes, in order; $1: the lanes, each with where to begin and how many to read.
select r.lane, t.*
from json_to_recordset($1::json) as r (
    lane integer, task_type text, resources text[], suite text, priority float8, id bigint, at_most integer,
    below bigint
) cross join lateral (
    select
        t.id, guid, t.task_type, t.priority, t.resources, t.suite, time_limit, date_part('epoch', received),
        state, attempts, attempt, worker, date_part('epoch', dispatched),
        date_part('epoch', started), avoid,
        doubt, date_part('epoch', short_since), tried, shun, verdict
    from {t}tasks as t
    where t.task_type = r.task_type
        and hash_array_extended(t.resources, 0) = hash_array_extended(r.resources, 0)
        and coalesce(t.suite, '') = coalesce(r.suite, '')
        and (-t.priority, t.id) > (coalesce(r.priority, '-infinity'), r.id)
        and t.resources = r.resources
        and t.suite is not distinct from r.suite
        and (r.below is null or t.id < r.below)
        and t.state = 'waiting' and t.attempts = 0 and not t.tried and cardinality(t.avoid) = 0
    order by -t.priority, t.id
    limit r.at_most
) as t
order by r.lane, -t.priority, t.id;
