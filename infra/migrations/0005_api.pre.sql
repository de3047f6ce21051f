-- What devices bring back from offline, and what operators and dashboards work with: templates, inspections, photos,
-- the operations that changed them, and jobs as lists.

CREATE TABLE templates (
    template_id uuid PRIMARY KEY,
    name        text NOT NULL,
    version     integer NOT NULL CHECK (version >= 1),
    body        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 80);

-- Every version there was: an inspection names the one it was made by.
CREATE TABLE template_versions (
    template_id uuid NOT NULL REFERENCES templates ON DELETE CASCADE,
    version     integer NOT NULL,
    name        text NOT NULL,
    body        text NOT NULL,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (template_id, version)
);

CREATE TABLE inspections (
    inspection_id    uuid PRIMARY KEY,
    inspector_id     text COLLATE "C" NOT NULL,
    template_id      uuid NOT NULL REFERENCES templates,
    template_version integer NOT NULL,
    status           text NOT NULL CHECK (status IN ('draft', 'submitted', 'approved', 'rejected')),
    title            text NOT NULL,
    answers          text NOT NULL,
    note             text,
    version          integer NOT NULL CHECK (version >= 1),
    is_deleted       boolean NOT NULL DEFAULT false,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    submitted_at     timestamptz,
    decided_at       timestamptz,
    decided_by       text
) WITH (fillfactor = 80);
-- One for each list that is asked for; newest first, pages by (created_at, id) or by (submitted_at, id).
CREATE INDEX inspections_inspector ON inspections (inspector_id, status, created_at, inspection_id);
CREATE INDEX inspections_template ON inspections (template_id, status, created_at, inspection_id);
CREATE INDEX inspections_status ON inspections (is_deleted, status, created_at, inspection_id);
CREATE INDEX inspections_created ON inspections (created_at, inspection_id);
CREATE INDEX inspections_submitted ON inspections (submitted_at, inspection_id) WHERE submitted_at IS NOT NULL;

-- An operation is claimed by its key before it has any effect, in the transaction of the effect; only what is final stays.
CREATE TABLE sync_operations (
    idempotency_key text COLLATE "C" NOT NULL,
    principal       text COLLATE "C" NOT NULL,
    user_id         text COLLATE "C" NOT NULL,
    operation_type  text NOT NULL,
    entity_id       uuid NOT NULL,
    body_hash       bytea NOT NULL,
    status          text NOT NULL CHECK (status IN ('claimed', 'applied', 'rejected')),
    result          text,
    processed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (idempotency_key, principal)
);
CREATE INDEX sync_operations_entity ON sync_operations (entity_id);
CREATE INDEX sync_operations_user ON sync_operations (user_id, processed_at);
CREATE INDEX sync_operations_type ON sync_operations (operation_type, processed_at);
-- Kept for 30 days and pruned by age; they arrive in that order.
CREATE INDEX sync_operations_age ON sync_operations USING brin (processed_at);

-- How many keys a principal has used on a day (UTC): what bounds the table above.
CREATE TABLE operation_days (
    principal text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    used      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (principal, day)
) WITH (fillfactor = 50);

-- Whole requests that may be repeated: the answer of the first is given again for a day.
CREATE TABLE request_keys (
    principal    text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    fingerprint  bytea NOT NULL,
    locked_until timestamptz,
    status       smallint,
    headers      text,
    body         bytea,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (principal, key)
);
CREATE INDEX request_keys_age ON request_keys USING brin (created_at);

-- A photo is reserved here before anybody may upload it, under a key of its store that no other ever gets; `stored` says that
-- the store itself was asked. What is not stored in time expires, is taken away at its store, and only then forgotten.
CREATE TABLE photos (
    photo_id      uuid PRIMARY KEY,
    principal     text COLLATE "C" NOT NULL,
    inspection_id uuid REFERENCES inspections,
    store         text NOT NULL,
    object_key    text COLLATE "C" NOT NULL,
    name          text NOT NULL,
    content_type  text NOT NULL,
    size          bigint NOT NULL CHECK (size > 0),
    sha256        text NOT NULL CHECK (length(sha256) = 64),
    md5           text CHECK (length(md5) = 32),
    status        text NOT NULL CHECK (status IN ('pending', 'stored', 'expired')),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz NOT NULL,
    confirmed_at  timestamptz,
    UNIQUE (store, object_key)
) WITH (fillfactor = 80);
CREATE INDEX photos_inspection ON photos (inspection_id, created_at, photo_id) WHERE status = 'stored';
CREATE INDEX photos_pending ON photos (expires_at) WHERE status = 'pending';
CREATE INDEX photos_expired ON photos (expires_at) WHERE status = 'expired';
CREATE INDEX photos_principal_pending ON photos (principal, expires_at) WHERE status = 'pending';

-- Lists of jobs, each by one index; names sort and match as bytes.
CREATE INDEX jobs_created ON jobs (created_at, job_id);
CREATE INDEX jobs_name ON jobs (name, job_id);
-- They hold beside their keys what a list may check on the way, so that a walk over thousands of rows stays in the index.
CREATE INDEX jobs_status ON jobs (current_status, created_at, job_id) INCLUDE (kind);
CREATE INDEX jobs_kind ON jobs (kind, created_at, job_id) INCLUDE (current_status);
DROP INDEX jobs_device;
CREATE INDEX jobs_device ON jobs (device_id, created_at, job_id) INCLUDE (current_status, kind);

-- The request itself, of a job that came by REST and not as a file; and how often a dead job was queued anew, and when last.
ALTER TABLE jobs
    ADD COLUMN inline_body text,
    ADD COLUMN requested_by text,
    ADD COLUMN redrives integer NOT NULL DEFAULT 0,
    ADD COLUMN redriven_at timestamptz;

-- API processes that are alive: when Redis is away, each enforces its share of every limit.
CREATE TABLE api_instances (
    name         text COLLATE "C" PRIMARY KEY,
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
