-- The first schema. Finished tasks move from tasks to history; attempts are written when they end.

create table {t}upgrades (
    number integer not null,
    name text not null,
    applied_at timestamptz not null default clock_timestamp(),
    program text not null,
    constraint {t}upgrades_pkey primary key (number)
);

-- One row. Its epoch is the number of the present leadership; turns counts the transactions that wrote. The grid's identity is
-- created here once and is part of a dump; lives are the random names of the last leaderships, newest first.
-- The calendar tells what is old, and does not follow clocks that jump; it is written every few minutes.
create table {t}manager (
    single boolean not null default true,
    state text not null default 'running',
    task_ids bigint not null default 1,
    attempt_ids bigint not null default 1,
    epoch bigint not null default 0,
    turns bigint not null default 0,
    state_since timestamptz not null default clock_timestamp(),
    identity text not null default md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text),
    lives text[] not null default '{}',
    calendar timestamptz,
    constraint {t}manager_pkey primary key (single),
    constraint {t}manager_one_row check (single),
    constraint {t}manager_state check (state in ('running', 'paused', 'stopped'))
);

insert into {t}manager default values;

-- Tasks that wait or are in flight, with the other properties of their messages. Each page has free space, so that a change of
-- state stays in its page and touches no index. Guids are checked at commit: a task may finish and be submitted again in one turn.
create table {t}tasks (
    id bigint not null,
    guid text not null,
    task_type text not null,
    priority double precision not null,
    resources text[] not null,
    suite text,
    time_limit double precision,
    received timestamptz not null,
    state text not null,
    attempts integer not null,
    attempt bigint,
    worker text,
    dispatched timestamptz,
    started timestamptz,
    avoid text[] not null,
    doubt text,
    short_since timestamptz,
    tried boolean not null default false,
    shun text[] not null default '{}',
    verdict text,
    body bytea not null,
    properties bytea,
    constraint {t}tasks_pkey primary key (id),
    constraint {t}tasks_guid unique (guid) deferrable initially deferred,
    constraint {t}tasks_state check (state in ('waiting', 'dispatched', 'working', 'dead_lettering')),
    constraint {t}tasks_priority check (priority > '-infinity' and priority < 'infinity'),
    constraint {t}tasks_time_limit check (time_limit > 0),
    constraint {t}tasks_attempts check (attempts >= 0),
    constraint {t}tasks_doubt check (doubt in ('done', 'stale', 'left')),
    constraint {t}tasks_in_flight check (
        case state
            when 'waiting' then attempt is null and worker is null
            when 'dead_lettering' then true
            else attempt is not null and worker is not null and dispatched is not null
        end
    )
) with (fillfactor = 70);

-- When not all waiting tasks are in memory, they are read by lanes, in order. No column of this index ever changes, so that a
-- change of state still touches no index. It has a hash of the resources, because their names may be too long for an index.
create index {t}tasks_lanes on {t}tasks (
    task_type, hash_array_extended(resources, 0), coalesce(suite, ''), (-priority), id
);

create table {t}attempts (
    id bigint not null,
    task_id bigint not null,
    guid text not null,
    number integer not null,
    worker text not null,
    dispatched timestamptz not null,
    started timestamptz,
    ended timestamptz not null,
    outcome text not null,
    unresolved boolean not null,
    result text,
    message text,
    details text,
    constraint {t}attempts_pkey primary key (id),
    constraint {t}attempts_number check (number > 0),
    constraint {t}attempts_outcome check (
        outcome in (
            'completed', 'undelivered', 'unconfirmed', 'dispatch_timeout', 'given_up',
            'offline', 'missing', 'stalled', 'superseded', 'environment'
        )
    ),
    constraint {t}attempts_result check (result in ('passed', 'failed', 'error', 'unknown'))
);

-- A task that is retried for ever has very many attempts; only the last ones are read.
create index {t}attempts_task on {t}attempts (task_id, id);
create index {t}attempts_unresolved on {t}attempts (id) where unresolved;

create table {t}history (
    id bigint not null,
    guid text not null,
    task_type text not null,
    priority double precision not null,
    resources text[] not null,
    suite text,
    time_limit double precision,
    received timestamptz not null,
    attempts integer not null,
    outcome text not null,
    finished_at timestamptz not null,
    body bytea not null,
    properties bytea,
    settled boolean not null default false,
    again boolean not null default false,
    copy text,
    result text,
    message text,
    attempt bigint,
    worker text,
    constraint {t}history_pkey primary key (id),
    constraint {t}history_copy check (copy in ('due', 'doubt', 'there')),
    constraint {t}history_outcome check (outcome in ('completed', 'stopped', 'dead')),
    constraint {t}history_result check (
        result is null or (outcome = 'completed' and result in ('passed', 'failed', 'error', 'unknown'))
    )
);

-- Finds guids, and those that begin with a text.
create index {t}history_guid on {t}history (guid text_pattern_ops, id);
-- For pages of history: all of it, a suite's, and a worker's, newest first.
create index {t}history_newest on {t}history (finished_at, id);
create index {t}history_suite on {t}history (suite, finished_at, id) where suite is not null;
create index {t}history_worker on {t}history (worker, finished_at, id) where worker is not null;
-- Finds what may be removed, oldest first.
create index {t}history_finished on {t}history (finished_at, id) where outcome <> 'dead' or settled or again;

-- How many tasks of a suite are in history, by ending: the result of a completed task, the outcome of any other. Read when its last
-- task has ended.
create table {t}suite_ends (
    guid text not null,
    ending text not null,
    tasks bigint not null,
    constraint {t}suite_ends_pkey primary key (guid, ending)
) with (fillfactor = 70);

-- Dead tasks are listed until somebody settles them, or a task with the same guid is submitted.
create index {t}history_dead on {t}history (id) where outcome = 'dead' and not settled and not again;
-- Finds dead tasks whose copy must be sent, searched for or removed.
create index {t}history_copies on {t}history (id) where copy is not null and (copy <> 'there' or settled or again);
create index {t}history_dead_guid on {t}history (guid) where outcome = 'dead' and not settled and not again;

create table {t}workers (
    name text not null,
    worker_type text not null,
    exchange_name text not null,
    status text not null,
    since timestamptz not null,
    heard timestamptz,
    constraint {t}workers_pkey primary key (name),
    constraint {t}workers_status check (
        status in ('idle', 'dispatched', 'working', 'stalled', 'missing')
    )
) with (fillfactor = 70);

-- Paused suites.
create table {t}paused_suites (
    guid text not null,
    constraint {t}paused_suites_pkey primary key (guid)
);

-- Suites that are being stopped, or were stopped a while ago: their tasks below an id, except those that were in flight.
create table {t}stopped_suites (
    guid text not null,
    below bigint not null,
    spared bigint[] not null,
    commands integer not null,
    stopped bigint not null,
    over boolean not null,
    constraint {t}stopped_suites_pkey primary key (guid)
);

-- Fails the transaction with the given SQLSTATE, unless the expected number of rows was found.
create function {t}expect(code text, what text, wanted bigint, got bigint) returns void
language plpgsql as $$
begin
    if got is distinct from wanted then
        raise exception '%: expected %, found %', what, wanted, got using errcode = code;
    end if;
end
$$;
