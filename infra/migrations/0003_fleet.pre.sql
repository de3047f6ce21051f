-- The fleet in motion: who may still come in, how often a device comes and goes, and hubs that leave by plan.

-- How often the device has connected of late: one is added with each connection, and the sum decays.
-- A device that came to another hub's place and was sent on is not sent on again for a while.
ALTER TABLE cursors
    ADD COLUMN flaps      real NOT NULL DEFAULT 0,
    ADD COLUMN rehomed_at timestamptz;

-- `draining` goes on meaning "send nobody here now", whatever the reason; `leaving` is a drain under way.
ALTER TABLE hubs
    ADD COLUMN ops_url text,
    ADD COLUMN leaving boolean NOT NULL DEFAULT false;

-- Tokens of the device that were issued before this are revoked.
ALTER TABLE devices ADD COLUMN tokens_valid_from timestamptz;
CREATE INDEX devices_tokens_valid_from ON devices (tokens_valid_from, device_id) WHERE tokens_valid_from IS NOT NULL;

CREATE TABLE revoked_tokens (
    token_id   text COLLATE "C" PRIMARY KEY,
    subject    text NOT NULL,
    reason     text NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX revoked_tokens_revoked_at ON revoked_tokens (revoked_at, token_id);
CREATE INDEX revoked_tokens_expires_at ON revoked_tokens (expires_at);
