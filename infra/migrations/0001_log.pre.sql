-- The log: devices, their events and their cursors; and who is connected where.

CREATE TABLE log_identity (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    system_id text NOT NULL,
    timeline  integer NOT NULL,
    epoch     integer NOT NULL CHECK (epoch >= 1),
    reason    text NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO log_identity (system_id, timeline, epoch, reason)
SELECT system_identifier::text,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer,
       1,
       'created'
FROM pg_control_system();

-- Room is left in the page (fillfactor) so that raising head_seq stays a heap-only update.
CREATE TABLE devices (
    device_id  text COLLATE "C" PRIMARY KEY,
    class      text NOT NULL CHECK (class ~ '^[a-z][a-z0-9_-]{0,31}$'),
    epoch      integer NOT NULL CHECK (epoch >= 1),
    head_seq   bigint NOT NULL DEFAULT 0,
    floor_seq  bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (0 <= floor_seq AND floor_seq <= head_seq)
) WITH (fillfactor = 50);

-- epoch stands here beside devices.epoch, and the two change in one transaction, because an ack that waited for this row's
-- lock is judged again by this row alone: a raise that committed meanwhile must make it miss.
CREATE TABLE cursors (
    device_id    text COLLATE "C" PRIMARY KEY REFERENCES devices,
    epoch        integer NOT NULL,
    acked_seq    bigint NOT NULL DEFAULT 0 CHECK (acked_seq >= 0),
    acked_at     timestamptz,
    conn_term    bigint NOT NULL DEFAULT 0,
    instance     text,
    attempt      bigint NOT NULL DEFAULT 0,
    hub          text,
    connected_at timestamptz,
    disconnected_at timestamptz
) WITH (fillfactor = 50);

CREATE TABLE events (
    device_id   text COLLATE "C" NOT NULL,
    seq         bigint NOT NULL,
    event_id    text NOT NULL,
    type        text NOT NULL,
    body        text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (device_id, seq)
);

CREATE TABLE event_keys (
    device_id   text COLLATE "C" NOT NULL,
    dedupe_key  text COLLATE "C" NOT NULL,
    body_hash   bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (device_id, dedupe_key)
);

-- Keys are only ever pruned by age and arrive in that order, so a block range index serves at next to no cost per insert.
CREATE INDEX event_keys_recorded_at ON event_keys USING brin (recorded_at);

CREATE TABLE used_tickets (
    jti        text COLLATE "C" PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX used_tickets_expires_at ON used_tickets (expires_at);

CREATE TABLE hubs (
    name         text COLLATE "C" PRIMARY KEY,
    instance     text NOT NULL,
    url          text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    connections  integer NOT NULL DEFAULT 0,
    capacity     integer NOT NULL CHECK (capacity > 0),
    draining     boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);
