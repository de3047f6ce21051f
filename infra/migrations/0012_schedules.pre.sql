-- What makes jobs by the clock. `next_at` is moved on by compare-and-set in the transaction that inserts the jobs.
CREATE TABLE schedules (
    name         text COLLATE "C" PRIMARY KEY,
    cron         text,
    every_s      integer CHECK (every_s > 0),
    timezone     text NOT NULL,
    device_ids   text[] COLLATE "C" NOT NULL CHECK (cardinality(device_ids) > 0),
    kind         text NOT NULL,
    request_name text NOT NULL,
    body         text NOT NULL,
    priority     smallint CHECK (priority BETWEEN -9 AND 9),
    enabled      boolean NOT NULL DEFAULT true,
    next_at      timestamptz NOT NULL,
    fired_at     timestamptz,
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((cron IS NULL) <> (every_s IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX schedules_due ON schedules (next_at) WHERE enabled;
