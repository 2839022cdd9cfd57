-- How the tasks of a suite ended is counted when none of them is left. Dead tasks are listed until somebody has settled
-- what becomes of them. And it is kept since when the manager is in its state; in a database that has been in use before
-- this, nobody knows that until the state changes.

create index {t}history_suite on {t}history (suite) where suite is not null;

alter table {t}history add column settled boolean not null default false;

create index {t}history_dead on {t}history (id) where outcome = 'dead' and not settled;

alter table {t}manager add column state_since timestamptz;

update {t}manager set state_since = clock_timestamp() where epoch = 0;
