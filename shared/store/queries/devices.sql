-- name: ensure
-- Make the device and its cursor, unless they are there. A new device starts in the log's epoch.
WITH made AS (
    INSERT INTO devices (device_id, class, epoch)
    SELECT $1, $2, l.epoch FROM log_identity l
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
