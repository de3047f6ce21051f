-- name: ensure
INSERT INTO feeds (feed_id, provider, root, partition)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[]) ORDER BY 1
ON CONFLICT DO NOTHING

-- name: state
SELECT feed_id, cursor, baseline_at IS NOT NULL AS baselined, generation
FROM feeds WHERE feed_id = $1

-- name: ever_scanned
SELECT EXISTS (SELECT FROM feeds WHERE feed_id = ANY ($1::text[]) AND generation > 0) AS ever

-- name: changed
-- Pages changed something. Under the terms.
WITH held AS (SELECT feed_id FROM feeds WHERE feed_id = ANY ($1::text[]) ORDER BY feed_id FOR NO KEY UPDATE)
UPDATE feeds f SET changed_at = clock_timestamp() FROM held WHERE f.feed_id = held.feed_id

-- name: scanned
-- The whole of each feed was compared with the store; the first time ends the baseline. Under the terms.
WITH held AS (SELECT feed_id FROM feeds WHERE feed_id = ANY ($1::text[]) ORDER BY feed_id FOR NO KEY UPDATE)
UPDATE feeds f
SET generation = f.generation + 1, scanned_at = clock_timestamp(),
    baseline_at = COALESCE(f.baseline_at, clock_timestamp())
FROM held WHERE f.feed_id = held.feed_id

-- name: hook_secrets
SELECT feed_id, hook_secret FROM feeds WHERE feed_id = ANY ($1::text[]) AND hook_secret IS NOT NULL

-- name: free
-- Leases that nobody holds now, so that rivals of a live owner do not even try its lock; and for how many seconds those have been
-- over that nobody gave back.
SELECT name, CASE WHEN owner IS NOT NULL AND isfinite(expires_at)
                  THEN extract(epoch FROM clock_timestamp() - expires_at)::double precision END AS silent_s
FROM leases WHERE name = ANY ($1::text[]) AND expires_at <= clock_timestamp() ORDER BY name

-- name: disown
-- A watcher that starts ends what an earlier run of its name left: the same name is the same owner. The next claim still waits for
-- an effect in flight and raises the term, so the earlier run can change nothing any more.
WITH mine AS (
    SELECT name FROM leases WHERE name = ANY ($1::text[]) AND owner = $2 ORDER BY name FOR NO KEY UPDATE
)
UPDATE leases l SET owner = NULL, expires_at = '-infinity' FROM mine WHERE l.name = mine.name
RETURNING l.name

-- name: join_watchers
-- The newest run of a name wins. Rows of watchers silent for a day go.
WITH pruned AS (
    DELETE FROM watchers WHERE name <> $1 AND heartbeat_at < clock_timestamp() - interval '1 day'
)
INSERT INTO watchers (name, instance) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET instance = $2, heartbeat_at = clock_timestamp()

-- name: watchers
-- Who watches: all that have not said goodbye, and whether they were heard of lately. Says at the same time that we live, not
-- oftener than needed.
WITH beat AS (
    UPDATE watchers SET heartbeat_at = clock_timestamp()
    WHERE name = $1 AND instance = $2 AND heartbeat_at < clock_timestamp() - make_interval(secs => $3)
)
SELECT name, instance, heartbeat_at > clock_timestamp() - make_interval(secs => $4) AS live FROM watchers

-- name: leave_watchers
DELETE FROM watchers WHERE name = $1 AND instance = $2
