-- Feeds of cloud providers: where one is in its log of changes or in a run over everything, what woke it, what it is promised.

-- `hinted_at` and `full_asked_at` are written by whoever has a reason to; all else only under the term of the feed's lease.
-- `hook_secret` comes with every call of the provider that belongs to this feed. `subscriptions` (JSON) holds the promise that
-- stands and the ids that were retired and are still to be ended at the provider.
-- phase: 'changes' follows the log; 'full' is in a run over everything, whose rows are marked with `generation`; 'sweep' forgets
-- what that run did not see. `more`: the provider had more to tell when the last page was recorded.
ALTER TABLE feeds
    ADD COLUMN phase text NOT NULL DEFAULT 'changes' CHECK (phase IN ('changes', 'full', 'sweep')),
    ADD COLUMN more boolean NOT NULL DEFAULT false,
    ADD COLUMN full_reason text,
    ADD COLUMN full_began_at timestamptz,
    ADD COLUMN full_asked_at timestamptz,
    ADD COLUMN full_pages bigint NOT NULL DEFAULT 0,
    ADD COLUMN full_items bigint NOT NULL DEFAULT 0,
    ADD COLUMN polled_at timestamptz,
    ADD COLUMN hinted_at timestamptz,
    ADD COLUMN hook_secret text,
    ADD COLUMN subscriptions text;

-- Where a provider knows items by ids, `item_id` is its id and `path` follows the folders; there `sha256` is the content's hash,
-- once it is known, beside the provider's own word in `content_version`. `retry_at`: content that cannot be read now is tried
-- again then. `leaving`: 1 its folder has gone or moved away and probably took it along; 2 the provider has told everything once more
-- since then, and when that is settled without a word of it, it has left.
ALTER TABLE items
    ADD COLUMN parent_id text COLLATE "C",
    ADD COLUMN sha256 text CHECK (length(sha256) = 64),
    ADD COLUMN retry_at timestamptz,
    ADD COLUMN leaving smallint NOT NULL DEFAULT 0;
CREATE INDEX items_leaving ON items (feed_id) WHERE leaving > 0;
CREATE INDEX items_parent ON items (feed_id, parent_id) WHERE parent_id IS NOT NULL;

-- Folders by id, since a provider tells of a folder that is renamed and not of what lies in it. Written by the feed's owner alone.
-- unsettled: 2 it is new or moved, what lies below it has to follow; 1 the same, but where it lies is not known yet; 3 it is gone
-- with all below it.
CREATE TABLE cloud_folders (
    feed_id    text COLLATE "C" NOT NULL REFERENCES feeds,
    item_id    text COLLATE "C" NOT NULL,
    parent_id  text COLLATE "C",
    name       text NOT NULL,
    is_root    boolean NOT NULL DEFAULT false,
    unsettled  smallint NOT NULL DEFAULT 0,
    generation bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (feed_id, item_id)
) WITH (fillfactor = 80);
CREATE INDEX cloud_folders_parent ON cloud_folders (feed_id, parent_id);
CREATE INDEX cloud_folders_unsettled ON cloud_folders (feed_id) WHERE unsettled > 0;

-- Files that were told before the folder they lie in. What `items` has of them stands until their place is known.
CREATE TABLE cloud_unplaced (
    feed_id    text COLLATE "C" NOT NULL REFERENCES feeds,
    item_id    text COLLATE "C" NOT NULL,
    parent_id  text COLLATE "C" NOT NULL,
    name       text NOT NULL,
    version    text NOT NULL,
    size       bigint NOT NULL,
    sha256     text,
    generation bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (feed_id, item_id)
);

-- The provider's own id of a file, where it has one: it outlives a rename.
ALTER TABLE jobs ADD COLUMN IF NOT EXISTS object_id text;
ALTER TABLE response_files ADD COLUMN IF NOT EXISTS object_id text;
