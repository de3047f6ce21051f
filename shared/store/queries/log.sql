-- name: append
-- Keys are claimed first, in order: a rival's claim is waited for, and what it committed is skipped. Only then are the devices
-- locked, in id order, and only the claimed are numbered. Looking for known keys and locking in one step would judge by a
-- snapshot older than the lock.
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
        WITH ORDINALITY AS i (device_id, dedupe_key, event_id, type, body, body_hash, n)
), claimed AS (
    INSERT INTO event_keys (device_id, dedupe_key, body_hash)
    SELECT i.device_id, i.dedupe_key, i.body_hash
    FROM input i WHERE EXISTS (SELECT FROM devices d WHERE d.device_id = i.device_id)
    ORDER BY i.device_id COLLATE "C", i.dedupe_key COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING device_id, dedupe_key
), locked AS (
    SELECT device_id, epoch, head_seq FROM devices
    WHERE device_id = ANY (ARRAY(SELECT device_id FROM claimed))
    ORDER BY device_id FOR NO KEY UPDATE
), numbered AS (
    SELECT i.n, i.device_id, i.event_id, i.type, i.body, l.epoch,
           l.head_seq + row_number() OVER (PARTITION BY i.device_id ORDER BY i.n) AS seq
    FROM input i
    JOIN claimed c ON c.device_id = i.device_id AND c.dedupe_key = i.dedupe_key
    JOIN locked l ON l.device_id = i.device_id
), inserted AS (
    INSERT INTO events (device_id, seq, event_id, type, body)
    SELECT device_id, seq, event_id, type, body FROM numbered
), raised AS (
    UPDATE devices d SET head_seq = x.head
    FROM (SELECT device_id, max(seq) AS head FROM numbered GROUP BY device_id) x
    WHERE d.device_id = x.device_id
)
SELECT n, epoch, seq FROM numbered

-- name: known_keys
-- What stands under the keys that could not be claimed; after the append, so that a rival's commit is seen.
SELECT i.n, k.body_hash, d.device_id IS NOT NULL AS known
FROM unnest($1::text[], $2::text[], $3::integer[]) AS i (device_id, dedupe_key, n)
LEFT JOIN devices d ON d.device_id = i.device_id
LEFT JOIN event_keys k ON k.device_id = i.device_id AND k.dedupe_key = i.dedupe_key

-- name: read_pages
-- The next events of several devices, with epoch, floor, head and acked of the same snapshot. A device with nothing to read
-- still has its row. The first event of a page comes whatever its size, unless the answer as a whole is full ($5 bytes): then
-- the device's row is there without it, marked cut.
SELECT device_id, epoch, floor_seq, head_seq, acked_seq,
       CASE WHEN fits THEN seq END AS seq, CASE WHEN fits THEN body END AS body, seq IS NOT NULL AND NOT fits AS cut
FROM (
    SELECT r.n, r.device_id, d.epoch, d.floor_seq, d.head_seq, c.acked_seq, e.seq, e.body, e.before,
           sum(COALESCE(octet_length(e.body), 0)) OVER (ORDER BY r.n, e.seq) - COALESCE(octet_length(e.body), 0) < $5 AS fits
    FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::bigint[])
        WITH ORDINALITY AS r (device_id, after, max_rows, max_bytes, n)
    JOIN devices d ON d.device_id = r.device_id
    JOIN cursors c ON c.device_id = r.device_id
    LEFT JOIN LATERAL (
        SELECT p.seq, p.body, p.before
        FROM (
            SELECT n.seq, n.body, sum(octet_length(n.body)) OVER (ORDER BY n.seq) - octet_length(n.body) AS before
            FROM (
                SELECT seq, body FROM events
                WHERE device_id = r.device_id AND seq > r.after
                ORDER BY seq LIMIT r.max_rows
            ) n
        ) p
        WHERE p.before = 0 OR p.before + octet_length(p.body) <= r.max_bytes
    ) e ON true
) page
WHERE fits OR before = 0
ORDER BY n, seq

-- name: trim_candidates
-- Devices that may have a prefix to delete: something above the floor whose time is over.
SELECT d.device_id FROM devices d
JOIN cursors c ON c.device_id = d.device_id
JOIN events e ON e.device_id = d.device_id AND e.seq = d.floor_seq + 1
WHERE d.device_id > $1
  AND (e.recorded_at < clock_timestamp() - $2::interval
       OR (e.seq <= c.acked_seq AND e.recorded_at < clock_timestamp() - $3::interval))
ORDER BY d.device_id
LIMIT $4

-- name: trim_device
-- Delete only a prefix, up to the smallest seq that must stay, and raise the floor in the same transaction.
WITH locked AS (
    SELECT device_id, floor_seq, head_seq FROM devices WHERE device_id = $1 FOR NO KEY UPDATE
), looked AS (
    SELECT e.seq, NOT (e.recorded_at < clock_timestamp() - $2::interval
                       OR (e.seq <= c.acked_seq AND e.recorded_at < clock_timestamp() - $3::interval)) AS stays
    FROM locked l
    JOIN cursors c ON c.device_id = l.device_id
    JOIN LATERAL (
        SELECT seq, recorded_at FROM events
        WHERE device_id = l.device_id AND seq > l.floor_seq ORDER BY seq LIMIT $4
    ) e ON true
), floor AS (
    SELECT COALESCE((SELECT min(seq) - 1 FROM looked WHERE stays), (SELECT max(seq) FROM looked)) AS seq
), deleted AS (
    DELETE FROM events e USING floor f, locked l
    WHERE e.device_id = l.device_id AND e.seq > l.floor_seq AND e.seq <= f.seq
    RETURNING e.seq
), raised AS (
    UPDATE devices d SET floor_seq = f.seq FROM floor f, locked l
    WHERE d.device_id = l.device_id AND f.seq > l.floor_seq
)
SELECT count(*) FROM deleted

-- name: prune_event_keys
-- One batch of keys whose time is over; how many there were. now() and no other clock: an index is not used for one that moves
-- within the statement, and this table has a month of events.
WITH old AS (
    DELETE FROM event_keys WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM event_keys WHERE recorded_at < now() - $1::interval LIMIT $2))
    RETURNING 1
)
SELECT count(*) FROM old

-- name: prune_used_tickets
-- One batch of tickets that could not be used any more anyway; how many there were.
WITH old AS (
    DELETE FROM used_tickets WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM used_tickets WHERE expires_at < now() - interval '5 minutes' LIMIT $1))
    RETURNING 1
)
SELECT count(*) FROM old
