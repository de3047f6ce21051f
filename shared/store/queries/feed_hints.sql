-- name: of_partitions
SELECT feed_id FROM feeds WHERE provider = $1 AND partition = ANY ($2::smallint[]) ORDER BY feed_id

-- name: hint
-- Something changed at these feeds, or their subscription is in doubt. A call that carries the number of its channel counts only if
-- the number is higher than any before it: whatever an earlier call was about is found by the look that this one causes. Returns
-- the feeds that have something to look at, with the moment in microseconds, which names the hint. The rows of `feeds` are not
-- touched: whoever holds one, a page that takes long or a watcher that was stopped inside it, holds up no call.
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
)
INSERT INTO feed_hints AS h (feed_id, hinted_at, doubted_at)
SELECT n.feed_id, clock_timestamp(), CASE WHEN n.doubted THEN clock_timestamp() END
FROM news n JOIN feeds f ON f.feed_id = n.feed_id ORDER BY n.feed_id
ON CONFLICT (feed_id) DO UPDATE
SET hinted_at = EXCLUDED.hinted_at, doubted_at = COALESCE(EXCLUDED.doubted_at, h.doubted_at)
RETURNING h.feed_id, (extract(epoch FROM h.hinted_at) * 1000000)::bigint AS hinted_us

-- name: hinted
-- When these feeds were last told of, for those that ever were; one read for all feeds of a watcher.
SELECT feed_id, (extract(epoch FROM hinted_at) * 1000000)::bigint AS hinted_us,
       COALESCE((extract(epoch FROM doubted_at) * 1000000)::bigint, 0) AS doubted_us
FROM feed_hints WHERE feed_id = ANY ($1::text[])

-- name: prune_channels
-- Numbers of channels that have been silent for longer than any channel lives.
DELETE FROM hook_channels WHERE heard_at < clock_timestamp() - interval '30 days'
RETURNING channel
