-- name: past
-- Find $12 tasks in history, newest first, that fit $1 to $8 and ended before the place ($9, $10). Look at $11 tasks that the index for $13 finds.
with those as materialized (
    select * from {t}history
    where $13::text = 'guid' and guid ~>=~ $6::text and guid ~<~ $7::text
    order by guid using ~<~, id
    limit 2 * $11::integer
)
select id, date_part('epoch', finished_at), fits, number = $11::integer
from (
    select
        id, finished_at, row_number() over (order by finished_at desc, id desc) as number,
        (
            ($1::text is null or suite = $1::text)
            and ($2::text is null or task_type = $2::text)
            and ($3::text is null or worker = $3::text)
            and ($4::text is null or outcome = $4::text)
            and ($5::text is null or result = $5::text)
            and ($6::text is null or guid ~>=~ $6::text)
            and ($7::text is null or guid ~<~ $7::text)
        ) as fits
    from (
        (
            select * from {t}history
            where $13::text = 'time'
                and finished_at >= to_timestamp($8::float8)
                and (finished_at, id) < (to_timestamp($9::float8), $10::bigint)
            order by finished_at desc, id desc
            limit $11::integer
        ) union all (
            select * from {t}history
            where $13::text = 'suite' and suite = $1::text
                and finished_at >= to_timestamp($8::float8)
                and (finished_at, id) < (to_timestamp($9::float8), $10::bigint)
            order by finished_at desc, id desc
            limit $11::integer
        ) union all (
            select * from {t}history
            where $13::text = 'worker' and worker = $3::text
                and finished_at >= to_timestamp($8::float8)
                and (finished_at, id) < (to_timestamp($9::float8), $10::bigint)
            order by finished_at desc, id desc
            limit $11::integer
        ) union all (
            select * from those
            where $13::text = 'guid'
                and finished_at >= to_timestamp($8::float8)
                and (finished_at, id) < (to_timestamp($9::float8), $10::bigint)
            order by finished_at desc, id desc
            limit $11::integer
        )
    ) as h
) as looked_at
where fits or number = $11::integer
order by finished_at desc, id desc
limit $12::integer;

-- name: count_past_guids
-- Count the tasks in history with a guid from $1 on and below $2, but at most $3.
select count(*) from (
    select from {t}history where guid ~>=~ $1::text and guid ~<~ $2::text limit $3::integer
) as counted;

-- name: load_past
-- Read the tasks in history with the ids $1, newest first, each with the attempt that completed it, or its last one.
select
    h.id, h.guid, h.task_type, h.priority, h.resources, h.suite, h.time_limit, date_part('epoch', h.received),
    h.attempts, h.outcome, date_part('epoch', h.finished_at), h.result, h.message,
    h.attempt, h.worker, date_part('epoch', a.dispatched), date_part('epoch', a.started)
from {t}history as h left join {t}attempts as a on a.id = h.attempt
where h.id = any ($1::bigint[])
order by h.finished_at desc, h.id desc;
