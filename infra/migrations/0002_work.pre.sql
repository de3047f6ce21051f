-- Watching and working: leases, feeds and what they saw, jobs and what they answered.

-- A claim takes FOR UPDATE, an effect under the term FOR KEY SHARE, a renewal plain UPDATE: so a claim waits for effects in
-- flight, and a heartbeat waits for neither.
CREATE TABLE leases (
    name       text COLLATE "C" PRIMARY KEY,
    owner      text,
    term       bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

CREATE TABLE watchers (
    name         text COLLATE "C" PRIMARY KEY,
    instance     text NOT NULL,
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE feeds (
    feed_id      text COLLATE "C" PRIMARY KEY,
    provider     text NOT NULL,
    root         text NOT NULL,
    partition    smallint,
    cursor       text,
    baseline_at  timestamptz,
    generation   bigint NOT NULL DEFAULT 0,
    scanned_at   timestamptz,
    changed_at   timestamptz
) WITH (fillfactor = 50);

CREATE TABLE items (
    feed_id         text COLLATE "C" NOT NULL REFERENCES feeds,
    item_id         text COLLATE "C" NOT NULL,
    path            text NOT NULL,
    device_id       text COLLATE "C" NOT NULL,
    area            text NOT NULL CHECK (area IN ('request', 'response')),
    state           text NOT NULL CHECK (state IN ('announced', 'baseline', 'reserved', 'waiting')),
    content_version text NOT NULL,
    size            bigint NOT NULL,
    inode           bigint,
    mtime_ns        bigint,
    generation      bigint NOT NULL DEFAULT 0,
    seen_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (feed_id, item_id)
);
-- Files of a device that does not exist yet, to be taken up when it does.
CREATE INDEX items_waiting ON items (device_id) WHERE state = 'waiting';

CREATE TABLE jobs (
    job_id          uuid PRIMARY KEY,
    queue           text NOT NULL,
    kind            text NOT NULL,
    device_id       text COLLATE "C" NOT NULL REFERENCES devices,
    store           text NOT NULL,
    path            text NOT NULL,
    name            text COLLATE "C" NOT NULL,
    size            bigint NOT NULL,
    content_version text NOT NULL,
    traceparent     text,
    current_status  text NOT NULL DEFAULT 'queued'
                    CHECK (current_status IN ('queued', 'running', 'done', 'retry', 'dead', 'cancelled')),
    run_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    give_up_at      timestamptz,
    attempts        integer NOT NULL DEFAULT 0,
    lease_token     bigint NOT NULL DEFAULT 0,
    lease_until     timestamptz,
    worker          text,
    error           text,
    detected_at     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    finished_at     timestamptz
) WITH (fillfactor = 70);
CREATE INDEX jobs_due ON jobs (queue, run_at) WHERE current_status IN ('queued', 'retry');
CREATE INDEX jobs_leased ON jobs (queue, lease_until) WHERE current_status = 'running';
CREATE INDEX jobs_device ON jobs (device_id, created_at, job_id);

CREATE TABLE job_status (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    ts     timestamptz NOT NULL DEFAULT clock_timestamp(),
    status text NOT NULL,
    worker text,
    detail text
);
CREATE INDEX job_status_history ON job_status (job_id, ts DESC);

CREATE FUNCTION job_status_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Deleting a job deletes its history: by then the job itself is gone. Nothing else removes or rewrites a row.
    IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM jobs WHERE jobs.job_id = OLD.job_id) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'job_status is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER job_status_append_only BEFORE UPDATE OR DELETE ON job_status
    FOR EACH ROW EXECUTE FUNCTION job_status_is_append_only();
CREATE TRIGGER job_status_not_truncated BEFORE TRUNCATE ON job_status
    FOR EACH STATEMENT EXECUTE FUNCTION job_status_is_append_only();

-- A response is reserved (folder) before anything of it is written, and completed with the event that announces it.
CREATE TABLE responses (
    response_id  uuid PRIMARY KEY,
    device_id    text COLLATE "C" NOT NULL REFERENCES devices,
    job_id       uuid UNIQUE REFERENCES jobs ON DELETE SET NULL,
    request_name text,
    store        text NOT NULL,
    folder       text COLLATE "C" NOT NULL,
    outcome      text CHECK (outcome IN ('ready', 'failed')),
    reason       text,
    event_id     text,
    reserved_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at timestamptz
);
CREATE INDEX responses_device ON responses (device_id, completed_at, response_id) WHERE completed_at IS NOT NULL;
-- Reserved folders, which the watcher records but never announces.
CREATE UNIQUE INDEX responses_reserved ON responses (store, folder) WHERE job_id IS NOT NULL;

CREATE TABLE response_files (
    file_id      uuid PRIMARY KEY,
    response_id  uuid NOT NULL REFERENCES responses ON DELETE CASCADE,
    device_id    text COLLATE "C" NOT NULL,
    store        text NOT NULL,
    path         text NOT NULL,
    name         text NOT NULL,
    size         bigint NOT NULL CHECK (size >= 0),
    sha256       text NOT NULL CHECK (length(sha256) = 64),
    content_type text NOT NULL
);
CREATE INDEX response_files_response ON response_files (response_id);
