-- name: moved
-- One index look-up per device; nothing of the events is touched.
SELECT DISTINCT s.device_id
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS s (device_id, epoch, head_seq)
JOIN devices d ON d.device_id = s.device_id
WHERE (d.epoch, d.head_seq) IS DISTINCT FROM (s.epoch, s.head_seq)
