-- name: moved
-- One index look-up per device; nothing of the events is touched.
SELECT DISTINCT s.device_id
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS s (device_id, epoch, head_seq)
JOIN devices d ON d.device_id = s.device_id
WHERE (d.epoch, d.head_seq) IS DISTINCT FROM (s.epoch, s.head_seq)

-- name: places
-- The class of each device and the hub its newest connection is at.
SELECT d.device_id, d.class, c.hub
FROM devices d JOIN cursors c ON c.device_id = d.device_id
WHERE d.device_id = ANY ($1::text[])
