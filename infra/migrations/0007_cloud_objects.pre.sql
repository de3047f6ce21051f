-- What is put into cloud stores: names that were given out, uploads and moves under way, places that a response left.

-- One row per name, claimed before anything of that name is made, so that rivals count on instead of probing. The guard
-- against everybody else stays with the store: it refuses what exists. Where names are not unique the row is the guard,
-- together with `object_id`, which stays the name's own for as long as the row does. `folder` is a path, or, where the
-- store knows folders by ids alone, `id:` and that id. Rows without `series` are names claimed for themselves.
CREATE TABLE cloud_names (
    store         text COLLATE "C" NOT NULL,
    folder        text COLLATE "C" NOT NULL CHECK (octet_length(folder) <= 1024),
    name_key      text COLLATE "C" NOT NULL CHECK (octet_length(name_key) <= 800),
    name          text NOT NULL,
    series        text COLLATE "C" CHECK (octet_length(series) <= 800),
    version       integer CHECK (version >= 1),
    object_id     text,
    size          bigint CHECK (size >= 0),
    sha256        text COLLATE "C" CHECK (length(sha256) = 64),
    state         text NOT NULL CHECK (state IN ('claimed', 'stored')),
    claimed_until timestamptz NOT NULL,
    claimed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (store, folder, name_key),
    CHECK ((series IS NULL) = (version IS NULL))
) WITH (fillfactor = 80);
-- The newest version of a series; and, of the versions of a series, the one with a certain content.
CREATE INDEX cloud_names_series ON cloud_names (store, folder, series, version) WHERE series IS NOT NULL;
CREATE INDEX cloud_names_content ON cloud_names (store, folder, series, sha256) WHERE series IS NOT NULL;
-- Claims that came to nothing.
CREATE INDEX cloud_names_claimed ON cloud_names (claimed_until) WHERE state = 'claimed';

-- An upload in parts: the row is there before the store hears of it, `session` is what the store needs to go on with it
-- (it may hold an address that needs no other permission). Whoever holds `token` before `lease_until` works on it.
-- Finished ones are gone; quarantined ones stay until a person has looked.
CREATE TABLE cloud_uploads (
    upload_id   uuid PRIMARY KEY,
    store       text COLLATE "C" NOT NULL,
    path        text COLLATE "C" NOT NULL CHECK (octet_length(path) <= 1300),
    size        bigint NOT NULL CHECK (size >= 0),
    sha256      text COLLATE "C" NOT NULL CHECK (length(sha256) = 64),
    state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'quarantined')),
    session     text,
    expires_at  timestamptz,
    restarts    integer NOT NULL DEFAULT 0,
    token       bigint NOT NULL DEFAULT 1,
    lease_until timestamptz NOT NULL,
    detail      text,
    begun_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
CREATE INDEX cloud_uploads_target ON cloud_uploads (store, path) WHERE state = 'running';
CREATE INDEX cloud_uploads_left ON cloud_uploads (lease_until) WHERE state = 'running';
CREATE INDEX cloud_uploads_quarantined ON cloud_uploads (changed_at) WHERE state = 'quarantined';

-- A move, by which its repetition knows how far it came. `landed` is where the content came to lie; ended ones stay a
-- while, so that a repetition after the end is told so instead of finding nothing. `move_key` is the sha256 of where from
-- and where to, since four texts may be too long for an index.
CREATE TABLE cloud_moves (
    move_key     bytea PRIMARY KEY,
    from_store   text COLLATE "C" NOT NULL,
    from_path    text COLLATE "C" NOT NULL CHECK (octet_length(from_path) <= 1300),
    to_store     text COLLATE "C" NOT NULL,
    to_path      text COLLATE "C" NOT NULL CHECK (octet_length(to_path) <= 1300),
    from_version text NOT NULL,
    size         bigint NOT NULL CHECK (size >= 0),
    sha256       text CHECK (length(sha256) = 64),
    landed       text,
    state        text NOT NULL CHECK (state IN ('begun', 'copied', 'ended')),
    begun_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 80);
CREATE INDEX cloud_moves_ended ON cloud_moves (changed_at) WHERE state = 'ended';

-- Where a response was reserved before its store failed and it was given to another. What was written there by then, or
-- comes there late, is still the job's own and is never announced.
CREATE TABLE left_places (
    store       text COLLATE "C" NOT NULL,
    folder      text COLLATE "C" NOT NULL,
    response_id uuid NOT NULL,
    left_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (store, folder)
);
