-- name: ensure
-- Make the devices and their cursors, those that are not there, in id order. A new device starts in the log's epoch.
WITH made AS (
    INSERT INTO devices (device_id, class, epoch)
    SELECT i.device_id, i.class, l.epoch FROM unnest($1::text[], $2::text[]) AS i (device_id, class), log_identity l
    ORDER BY i.device_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING device_id, epoch
), cursor AS (
    INSERT INTO cursors (device_id, epoch) SELECT device_id, epoch FROM made
)
SELECT count(*) AS made FROM made

-- name: set_class
UPDATE devices SET class = $2 WHERE device_id = $1 AND class <> $2

-- name: get
SELECT d.device_id, d.class, d.epoch, d.head_seq, d.floor_seq, d.created_at, c.acked_seq, c.acked_at, c.conn_term,
       c.hub, c.connected_at, c.disconnected_at,
       h.name IS NOT NULL AND h.heartbeat_at > clock_timestamp() - interval '15 seconds' AS hub_alive
FROM devices d
JOIN cursors c ON c.device_id = d.device_id
LEFT JOIN hubs h ON h.name = c.hub
WHERE d.device_id = $1
