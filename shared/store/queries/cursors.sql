-- name: greet
-- Many handshakes at once: spend the tickets, raise each connection's term, count it towards the device's flaps, and read
-- where the log stands. The tickets of devices that do not exist yet stay unspent, since their greeting is said again once
-- they do. A connection after one that its hub ended by restarting or leaving is no flap.
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::double precision[],
                         $7::double precision[], $8::text[])
        AS i (device_id, instance, attempt, hub, jti, jti_expires_at, issued_at, token_id)
), spent AS (
    INSERT INTO used_tickets (jti, expires_at)
    SELECT i.jti, to_timestamp(i.jti_expires_at) FROM input i
    WHERE i.jti IS NOT NULL AND EXISTS (SELECT FROM cursors c WHERE c.device_id = i.device_id)
    ORDER BY i.jti COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING jti
), locked AS (
    SELECT device_id, instance, attempt, hub, connected_at FROM cursors
    WHERE device_id = ANY ($1::text[]) AND (SELECT count(*) FROM spent) >= 0
    ORDER BY device_id FOR NO KEY UPDATE
), judged AS (
    SELECT i.device_id, i.instance, i.attempt, i.hub,
           CASE WHEN EXISTS (SELECT FROM revoked_tokens r WHERE r.subject = i.device_id AND r.token_id = i.token_id) THEN 'revoked'
                WHEN l.device_id IS NULL THEN 'unknown_device'
                WHEN d.tokens_valid_from > COALESCE(to_timestamp(i.issued_at), '-infinity') THEN 'revoked'
                WHEN i.jti IS NOT NULL AND NOT EXISTS (SELECT FROM spent s WHERE s.jti = i.jti) THEN 'ticket_used'
                WHEN l.instance = i.instance AND i.attempt < l.attempt THEN 'older_attempt'
                ELSE 'ok' END AS verdict,
           CASE WHEN l.hub IS NOT NULL AND (h.name IS NULL OR h.started_at > l.connected_at) THEN 0 ELSE 1 END AS flap
    FROM input i
    LEFT JOIN locked l ON l.device_id = i.device_id
    LEFT JOIN devices d ON d.device_id = i.device_id
    LEFT JOIN hubs h ON h.name = l.hub
), taken AS (
    UPDATE cursors c SET
        conn_term = c.conn_term + 1, instance = j.instance, attempt = j.attempt, hub = j.hub,
        -- exp() fails where its result is too small for a number, hence the bound on the age.
        flaps = j.flap + c.flaps * exp(-LEAST(GREATEST(COALESCE(
            extract(epoch FROM clock_timestamp() - c.connected_at)::double precision, 0) / $9, 0), 50)),
        connected_at = clock_timestamp(), disconnected_at = NULL
    FROM judged j WHERE c.device_id = j.device_id AND j.verdict = 'ok'
    RETURNING c.device_id, c.epoch, c.acked_seq, c.conn_term, c.flaps,
              extract(epoch FROM clock_timestamp() - c.rehomed_at)::double precision AS since_rehomed_s
)
SELECT j.device_id, j.verdict, t.epoch, d.floor_seq, d.head_seq, t.acked_seq, t.conn_term, t.flaps, t.since_rehomed_s,
       d.class
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
-- Of the devices a hub holds, those whose log or cursor is not what the hub knows, or whose credential was revoked.
WITH known AS (
    SELECT k.*, d.epoch AS log_epoch, d.floor_seq, d.head_seq AS log_head, c.acked_seq AS log_acked,
           c.conn_term AS newest_term, c.instance,
           COALESCE(d.tokens_valid_from > COALESCE(to_timestamp(k.issued_at), '-infinity'), false)
               OR EXISTS (SELECT FROM revoked_tokens r WHERE r.subject = k.device_id AND r.token_id = k.token_id) AS revoked
    FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::double precision[], $7::text[])
        AS k (device_id, epoch, head_seq, acked_seq, conn_term, issued_at, token_id)
    JOIN devices d ON d.device_id = k.device_id
    JOIN cursors c ON c.device_id = k.device_id
)
SELECT device_id, log_epoch, floor_seq, log_head, log_acked, newest_term, instance, revoked
FROM known
WHERE revoked OR (log_epoch, log_head, log_acked, newest_term) IS DISTINCT FROM (epoch, head_seq, acked_seq, conn_term)

-- name: mark_disconnected
-- Only while the connection that ended is still the newest one. Those that the hub itself ended ($3 is how many) were no
-- flaps, whether or not a newer one has come meanwhile.
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::integer[]) AS i (device_id, conn_term, excused)
), locked AS (
    SELECT device_id FROM cursors WHERE device_id = ANY ($1::text[]) ORDER BY device_id FOR NO KEY UPDATE
)
UPDATE cursors c SET
    hub = CASE WHEN c.conn_term = i.conn_term THEN NULL ELSE c.hub END,
    disconnected_at = CASE WHEN c.conn_term = i.conn_term THEN clock_timestamp() ELSE c.disconnected_at END,
    flaps = GREATEST(c.flaps - i.excused, 0)
FROM locked l JOIN input i ON i.device_id = l.device_id
WHERE c.device_id = l.device_id AND (c.conn_term = i.conn_term OR i.excused > 0)

-- name: mark_rehomed
-- These devices are sent to the hub that owns them, once in a while.
WITH locked AS (
    SELECT device_id FROM cursors WHERE device_id = ANY ($1::text[]) ORDER BY device_id FOR NO KEY UPDATE
)
UPDATE cursors c SET rehomed_at = clock_timestamp() FROM locked l WHERE c.device_id = l.device_id
