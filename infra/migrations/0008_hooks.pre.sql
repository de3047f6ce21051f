-- Calls of cloud providers: when a feed was told of, and which calls of a channel are repetitions; and places that responses left.

-- The provider said that the subscription ended, or soon will.
ALTER TABLE feeds ADD COLUMN doubted_at timestamptz;

-- The highest number that came by a channel: providers that number their calls number them upwards.
CREATE TABLE hook_channels (
    channel  text COLLATE "C" PRIMARY KEY,
    number   bigint NOT NULL,
    heard_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- When what was left there was removed.
ALTER TABLE left_places ADD COLUMN swept_at timestamptz;
CREATE INDEX left_places_due ON left_places (left_at) WHERE swept_at IS NULL;
