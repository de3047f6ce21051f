-- name: greet
-- Many handshakes at once: spend the tickets, raise each connection's term, and read where the log stands. The tickets of
-- devices that do not exist yet stay unspent, since their greeting is said again once they do.
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::double precision[])
        AS i (device_id, instance, attempt, hub, jti, jti_expires_at)
), spent AS (
    INSERT INTO used_tickets (jti, expires_at)
    SELECT i.jti, to_timestamp(i.jti_expires_at) FROM input i
    WHERE i.jti IS NOT NULL AND EXISTS (SELECT FROM cursors c WHERE c.device_id = i.device_id)
    ORDER BY i.jti COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING jti
), locked AS (
    SELECT device_id, instance, attempt FROM cursors
    WHERE device_id = ANY ($1::text[]) AND (SELECT count(*) FROM spent) >= 0
    ORDER BY device_id FOR NO KEY UPDATE
), judged AS (
    SELECT i.device_id, i.instance, i.attempt, i.hub,
           CASE WHEN l.device_id IS NULL THEN 'unknown_device'
                WHEN i.jti IS NOT NULL AND NOT EXISTS (SELECT FROM spent s WHERE s.jti = i.jti) THEN 'ticket_used'
                WHEN l.instance = i.instance AND i.attempt < l.attempt THEN 'older_attempt'
                ELSE 'ok' END AS verdict
    FROM input i LEFT JOIN locked l ON l.device_id = i.device_id
), taken AS (
    UPDATE cursors c SET
        conn_term = c.conn_term + 1, instance = j.instance, attempt = j.attempt, hub = j.hub,
        connected_at = clock_timestamp(), disconnected_at = NULL
    FROM judged j WHERE c.device_id = j.device_id AND j.verdict = 'ok'
    RETURNING c.device_id, c.epoch, c.acked_seq, c.conn_term
)
SELECT j.device_id, j.verdict, t.epoch, d.floor_seq, d.head_seq, t.acked_seq, t.conn_term
FROM judged j
LEFT JOIN taken t ON t.device_id = j.device_id
LEFT JOIN devices d ON d.device_id = j.device_id

-- name: record_acks
-- The highest ack of each device, only upward, only in its epoch, never above the head. The rows are locked in id order;
-- epoch and acked_seq are judged again on the locked row. With $4 only those that did not count are returned.
WITH input AS (
    SELECT device_id, epoch, max(seq) AS seq
    FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS i (device_id, epoch, seq) GROUP BY device_id, epoch
), locked AS (
    SELECT device_id, epoch, acked_seq FROM cursors WHERE device_id = ANY ($1::text[]) ORDER BY device_id FOR NO KEY UPDATE
), moved AS (
    UPDATE cursors c SET acked_seq = i.seq, acked_at = clock_timestamp()
    FROM locked l
    JOIN input i ON i.device_id = l.device_id
    JOIN devices d ON d.device_id = l.device_id
    WHERE c.device_id = l.device_id AND c.epoch = i.epoch AND i.seq > c.acked_seq AND i.seq <= d.head_seq
    RETURNING c.device_id, c.acked_seq
)
SELECT i.device_id, l.epoch, d.floor_seq, d.head_seq, COALESCE(m.acked_seq, l.acked_seq) AS acked_seq
FROM input i
JOIN locked l ON l.device_id = i.device_id
JOIN devices d ON d.device_id = i.device_id
LEFT JOIN moved m ON m.device_id = i.device_id
WHERE NOT $4::boolean OR l.epoch <> i.epoch OR COALESCE(m.acked_seq, l.acked_seq) < i.seq

-- name: sweep
-- Of the devices a hub holds, those whose log or cursor is not what the hub knows.
SELECT k.device_id, d.epoch, d.floor_seq, d.head_seq, c.acked_seq, c.conn_term, c.instance
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS k (device_id, epoch, head_seq, acked_seq, conn_term)
JOIN devices d ON d.device_id = k.device_id
JOIN cursors c ON c.device_id = k.device_id
WHERE (d.epoch, d.head_seq, c.acked_seq, c.conn_term) IS DISTINCT FROM (k.epoch, k.head_seq, k.acked_seq, k.conn_term)

-- name: mark_disconnected
-- Only while the connection that ended is still the newest one.
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::bigint[]) AS i (device_id, conn_term)
), locked AS (
    SELECT device_id FROM cursors WHERE device_id = ANY ($1::text[]) ORDER BY device_id FOR NO KEY UPDATE
)
UPDATE cursors c SET hub = NULL, disconnected_at = clock_timestamp()
FROM locked l JOIN input i ON i.device_id = l.device_id
WHERE c.device_id = l.device_id AND c.conn_term = i.conn_term
