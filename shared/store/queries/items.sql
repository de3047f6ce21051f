-- name: ledger
-- What the feed is known to hold in a range of paths: above the one, up to the other.
SELECT item_id, inode, size, mtime_ns, content_version, state
FROM items WHERE feed_id = $1 AND item_id > $2 AND item_id <= $3
ORDER BY item_id LIMIT $4

-- name: one
SELECT item_id, inode, size, mtime_ns, content_version, state FROM items WHERE feed_id = $1 AND item_id = $2

-- name: facts
-- All that decides what becomes of what was seen. Runs after the files were seen, in a snapshot of its own: a job's folder is
-- reserved before anything lies in it, so a reservation that matters is always visible here.
SELECT i.content_version, i.state, i.inode, i.size, i.mtime_ns,
       EXISTS (SELECT FROM devices d WHERE d.device_id = a.device_id) AS device_known,
       a.folder IS NOT NULL AND (
           EXISTS (SELECT FROM responses r WHERE r.store = $5 AND r.folder = a.folder AND r.job_id IS NOT NULL)
           OR EXISTS (SELECT FROM left_places l WHERE l.store = $5 AND l.folder = a.folder)
           OR EXISTS (SELECT FROM items f WHERE f.feed_id = a.feed_id AND f.item_id = a.folder AND f.state = 'reserved')
       ) AS reserved
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS a (feed_id, item_id, device_id, folder, n)
LEFT JOIN items i ON i.feed_id = a.feed_id AND i.item_id = a.item_id
ORDER BY a.n

-- name: reserved
-- Which of these folders hold the response of a job. One that was recorded stays so, even when the job is deleted.
SELECT a.folder
FROM unnest($3::text[]) AS a (folder)
WHERE EXISTS (SELECT FROM responses r WHERE r.store = $2 AND r.folder = a.folder AND r.job_id IS NOT NULL)
   OR EXISTS (SELECT FROM left_places l WHERE l.store = $2 AND l.folder = a.folder)
   OR EXISTS (SELECT FROM items i WHERE i.feed_id = $1 AND i.item_id = a.folder AND i.state = 'reserved')

-- name: upsert
INSERT INTO items (feed_id, item_id, path, device_id, area, state, content_version, size, inode, mtime_ns)
SELECT i.feed_id, i.item_id, i.item_id, i.device_id, i.area, i.state, i.content_version, i.size, i.inode, i.mtime_ns
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[])
    AS i (feed_id, item_id, device_id, area, state, content_version, size, inode, mtime_ns)
ON CONFLICT (feed_id, item_id) DO UPDATE
SET state = EXCLUDED.state, content_version = EXCLUDED.content_version, size = EXCLUDED.size, inode = EXCLUDED.inode,
    mtime_ns = EXCLUDED.mtime_ns, seen_at = clock_timestamp()

-- name: remove
DELETE FROM items i USING unnest($1::text[], $2::text[]) AS g (feed_id, item_id)
WHERE i.feed_id = g.feed_id AND i.item_id = g.item_id

-- name: feeds_with_arrivals
-- Feeds that hold files of a device that did not exist when they were seen and does now.
SELECT DISTINCT i.feed_id FROM items i
JOIN devices d ON d.device_id = i.device_id
WHERE i.state = 'waiting' AND i.feed_id = ANY ($1::text[])

-- name: arrivals
SELECT i.item_id, i.device_id, i.area, i.content_version, i.size, i.inode, i.mtime_ns
FROM items i JOIN devices d ON d.device_id = i.device_id
WHERE i.state = 'waiting' AND i.feed_id = $1
ORDER BY i.item_id LIMIT $2

-- name: waiting_devices
-- Devices that do not exist and have files waiting.
SELECT i.device_id, count(*) AS files FROM items i
WHERE i.state = 'waiting' AND NOT EXISTS (SELECT FROM devices d WHERE d.device_id = i.device_id)
GROUP BY i.device_id ORDER BY i.device_id LIMIT $1

-- name: waiting_count
SELECT count(*) FROM items WHERE state = 'waiting' AND feed_id = ANY ($1::text[])

-- name: record_responses
-- Responses that others wrote, one file each, complete from the start: the event is appended in the same transaction.
WITH input AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[],
                         $9::text[], $10::text[], $11::text[])
        AS i (response_id, file_id, device_id, folder, path, name, size, sha256, content_type, event_id, object_id)
), recorded AS (
    INSERT INTO responses (response_id, device_id, store, folder, outcome, event_id, completed_at)
    SELECT i.response_id, i.device_id, $12, i.folder, 'ready', i.event_id, clock_timestamp() FROM input i
    ON CONFLICT (response_id) DO NOTHING
    RETURNING response_id
)
INSERT INTO response_files (file_id, response_id, device_id, store, path, name, size, sha256, content_type, object_id)
SELECT i.file_id, i.response_id, i.device_id, $12, i.path, i.name, i.size, i.sha256, i.content_type, i.object_id
FROM input i JOIN recorded USING (response_id)
