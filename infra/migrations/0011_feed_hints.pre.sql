-- Hints by themselves. They were columns of `feeds`, and who called waited for the page that held the feed's row: with one watcher
-- stopped inside a page, the calls about all feeds waited with it.
CREATE TABLE feed_hints (
    feed_id    text COLLATE "C" PRIMARY KEY REFERENCES feeds ON DELETE CASCADE,
    hinted_at  timestamptz NOT NULL,
    doubted_at timestamptz
) WITH (fillfactor = 50);
