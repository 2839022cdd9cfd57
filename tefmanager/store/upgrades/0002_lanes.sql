-- Waiting tasks are read by lanes, in their order, when not all of them are in memory. Nothing in this index ever
-- changes, so that a change of state still touches no index. Resources stand in it by a number, since there may
-- be more of them than an index takes.

create index {t}tasks_lanes on {t}tasks (
    task_type, hash_array_extended(resources, 0), coalesce(suite, ''), (-priority), id
);
