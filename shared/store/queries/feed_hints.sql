-- name: of_partitions
SELECT feed_id FROM feeds WHERE provider = $1 AND partition = ANY ($2::smallint[]) ORDER BY feed_id

-- name: hint
-- Something changed at these feeds, or their subscription is in doubt. A call that carries the number of its channel counts only if
-- the number is higher than any before it: whatever an earlier call was about is found by the look that this one causes. Returns
-- the feeds that have something to look at, with the moment in microseconds, which names the hint.
WITH told AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[]) AS t (feed_id, channel, number, doubted)
), numbered AS (
    INSERT INTO hook_channels AS h (channel, number)
    SELECT t.channel, max(t.number) FROM told t WHERE t.channel IS NOT NULL GROUP BY t.channel ORDER BY t.channel
    ON CONFLICT (channel) DO UPDATE SET number = EXCLUDED.number, heard_at = clock_timestamp()
        WHERE h.number < EXCLUDED.number
    RETURNING h.channel
), news AS (
    SELECT t.feed_id, bool_or(t.doubted) AS doubted FROM told t
    WHERE t.channel IS NULL OR EXISTS (SELECT FROM numbered n WHERE n.channel = t.channel)
    GROUP BY t.feed_id
), held AS (
    SELECT f.feed_id, n.doubted FROM feeds f JOIN news n ON n.feed_id = f.feed_id
    ORDER BY f.feed_id FOR NO KEY UPDATE OF f
)
UPDATE feeds f SET hinted_at = clock_timestamp(),
    doubted_at = CASE WHEN held.doubted THEN clock_timestamp() ELSE f.doubted_at END
FROM held WHERE f.feed_id = held.feed_id
RETURNING f.feed_id, (extract(epoch FROM f.hinted_at) * 1000000)::bigint AS hinted_us

-- name: hinted
-- When these feeds were last told of, for those that ever were; one read for all feeds of a watcher.
SELECT feed_id, (extract(epoch FROM hinted_at) * 1000000)::bigint AS hinted_us,
       COALESCE((extract(epoch FROM doubted_at) * 1000000)::bigint, 0) AS doubted_us
FROM feeds WHERE feed_id = ANY ($1::text[]) AND hinted_at IS NOT NULL

-- name: prune_channels
-- Numbers of channels that have been silent for longer than any channel lives.
DELETE FROM hook_channels WHERE heard_at < clock_timestamp() - interval '30 days'
RETURNING channel
