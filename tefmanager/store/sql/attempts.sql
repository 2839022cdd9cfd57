-- name: end_attempts
-- Write attempts that ended; $1: their rows.
insert into {t}attempts (
    id, task_id, guid, number, worker, dispatched, started, ended, outcome, unresolved,
    result, message, details
)
select
    r.id, r.task_id, r.guid, r.number, r.worker, to_timestamp(r.dispatched), to_timestamp(r.started),
    to_timestamp(r.ended), r.end, r.unresolved, r.result, r.message, r.details
from json_to_recordset($1::json) as r (
    id bigint, task_id bigint, guid text, number integer, worker text, dispatched float8, started float8,
    ended float8, "end" text, unresolved boolean, result text, message text, details text
);

-- name: judge_attempts
-- Write what workers said of attempts that had ended before; $1: their ids and verdicts.
update {t}attempts as a
set result = r.result, message = r.message, details = r.details
from json_to_recordset($1::json) as r (id bigint, result text, message text, details text)
where a.id = r.id;

-- name: resolve_attempts
-- Note that workers no longer have the attempts $1. Attempts that were removed meanwhile are no error.
update {t}attempts set unresolved = false where id = any ($1::bigint[]) and unresolved;

-- name: load_unresolved
-- Read $2 attempts after id $1 that their workers may still have.
select
    id, task_id, guid, number, worker, date_part('epoch', dispatched),
    date_part('epoch', started), date_part('epoch', ended), outcome, unresolved,
    result, message, details
from {t}attempts
where unresolved and id > $1::bigint
order by id
limit $2::integer;

-- name: load_attempts
-- Read the last $2 ended attempts of task $1, oldest first.
select * from (
    select
        id, task_id, guid, number, worker, date_part('epoch', dispatched),
        date_part('epoch', started), date_part('epoch', ended), outcome, unresolved,
        result, message, details
    from {t}attempts
    where task_id = $1::bigint
    order by id desc
    limit $2::integer
) as last
order by id;
