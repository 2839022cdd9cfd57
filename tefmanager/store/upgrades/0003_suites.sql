-- How the tasks of a suite ended is counted when none of them is left; and it is kept since when the manager is in its
-- state. In a database that has been in use before this, nobody knows that until the state changes.

create index {t}history_suite on {t}history (suite) where suite is not null;

alter table {t}manager add column state_since timestamptz;

update {t}manager set state_since = clock_timestamp() where epoch = 0;
