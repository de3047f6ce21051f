-- name: state
SELECT cursor, phase, more, generation, baseline_at IS NOT NULL AS baselined,
       EXISTS (SELECT FROM cloud_folders c WHERE c.feed_id = f.feed_id AND c.unsettled > 0)
           OR EXISTS (SELECT FROM cloud_unplaced u WHERE u.feed_id = f.feed_id)
           OR EXISTS (SELECT FROM items i WHERE i.feed_id = f.feed_id AND i.leaving > 0) AS unsettled,
       COALESCE(extract(epoch FROM clock_timestamp() - scanned_at), 'infinity')::double precision AS scanned_age_s,
       COALESCE(full_asked_at > COALESCE(full_began_at, '-infinity'), false) AS full_asked,
       full_pages, full_items
FROM feeds f WHERE feed_id = $1

-- name: full_asked
-- Feeds for which somebody wants a run over everything that did not begin since.
SELECT feed_id FROM feeds
WHERE feed_id = ANY ($1::text[]) AND full_asked_at > COALESCE(full_began_at, '-infinity')

-- name: of_store
-- The feeds of a store of a cloud provider.
SELECT feed_id FROM feeds WHERE root = $1 AND provider <> 'local' ORDER BY partition, feed_id

-- name: ask_full
UPDATE feeds SET full_asked_at = clock_timestamp() WHERE feed_id = ANY ($1::text[]) RETURNING feed_id

-- name: progress
SELECT feed_id, phase, full_reason, full_pages, full_items,
       extract(epoch FROM clock_timestamp() - full_began_at)::double precision AS running_s,
       extract(epoch FROM clock_timestamp() - polled_at)::double precision AS polled_s,
       generation
FROM feeds WHERE feed_id = ANY ($1::text[]) ORDER BY feed_id

-- name: begin_full
-- A run over everything begins, in the transaction of its first page. Under the term.
UPDATE feeds SET phase = 'full', generation = $2, full_reason = $3, full_began_at = clock_timestamp(), full_pages = 0, full_items = 0
WHERE feed_id = $1

-- name: paged
-- A page was recorded: where to go on from. Under the term.
UPDATE feeds
SET cursor = $2, phase = $3, more = $4, polled_at = clock_timestamp(),
    changed_at = CASE WHEN $5 THEN clock_timestamp() ELSE changed_at END,
    full_pages = full_pages + CASE WHEN $6 THEN 1 ELSE 0 END, full_items = full_items + $7
WHERE feed_id = $1

-- name: swept
-- The run is over and what it did not see is forgotten; the first one ends the baseline. Under the term.
UPDATE feeds SET phase = 'changes', scanned_at = clock_timestamp(), baseline_at = COALESCE(baseline_at, clock_timestamp())
WHERE feed_id = $1

-- name: subscriptions
SELECT subscriptions, hook_secret FROM feeds WHERE feed_id = $1

-- name: save_subscriptions
-- Under the term.
UPDATE feeds SET subscriptions = $2, hook_secret = COALESCE(hook_secret, $3) WHERE feed_id = $1
