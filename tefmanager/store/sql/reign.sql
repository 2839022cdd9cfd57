-- name: begin_reign
-- Begin a reign: its number is one more than any before it.
update {t}manager set epoch = epoch + 1 returning epoch;

-- name: turn
-- Fence and begin a turn of reign $1; state, id counters and the state's time change where they are given.
with turn as (
    update {t}manager
    set turns = turns + 1,
        state = coalesce($2::text, state),
        task_ids = coalesce($3::bigint, task_ids),
        attempt_ids = coalesce($4::bigint, attempt_ids),
        state_since = coalesce(to_timestamp($5::float8), state_since)
    where epoch = $1::bigint
    returning 1
)
select {t}expect('TEF01', 'reign ' || $1::bigint, 1, (select count(*) from turn));
