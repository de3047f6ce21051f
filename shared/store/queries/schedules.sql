-- name: put
-- Make a schedule or replace one, unless there are $12 others already. Whether it was made. One whose rule stays the same goes on
-- as it was: else whoever says it more often than it fires would put it off for ever.
INSERT INTO schedules (name, cron, every_s, timezone, device_ids, kind, request_name, body, priority, next_at, created_by)
SELECT $1, $2, $3, $4, $5::text[], $6, $7, $8, $9, $10, $11
WHERE (SELECT count(*) FROM (SELECT 1 FROM schedules WHERE name <> $1 LIMIT $12) others) < $12
ON CONFLICT (name) DO UPDATE SET cron = EXCLUDED.cron, every_s = EXCLUDED.every_s, timezone = EXCLUDED.timezone,
    device_ids = EXCLUDED.device_ids, kind = EXCLUDED.kind, request_name = EXCLUDED.request_name, body = EXCLUDED.body,
    priority = EXCLUDED.priority, created_by = EXCLUDED.created_by,
    next_at = CASE WHEN (schedules.cron, schedules.every_s, schedules.timezone)
                        IS NOT DISTINCT FROM (EXCLUDED.cron, EXCLUDED.every_s, EXCLUDED.timezone)
                   THEN schedules.next_at ELSE EXCLUDED.next_at END
RETURNING xmax = 0 AS made

-- name: unknown_devices
SELECT g.device_id FROM unnest($1::text[]) AS g (device_id)
WHERE NOT EXISTS (SELECT FROM devices d WHERE d.device_id = g.device_id) LIMIT 5

-- name: now
SELECT clock_timestamp() AS now

-- name: list
SELECT name, cron, every_s, timezone, device_ids, kind, request_name, body, priority, enabled, next_at, fired_at, created_by,
       created_at
FROM schedules ORDER BY name LIMIT $1

-- name: get
SELECT name, cron, every_s, timezone, device_ids, kind, request_name, body, priority, enabled, next_at, fired_at, created_by,
       created_at
FROM schedules WHERE name = $1

-- name: enable
-- Go on, or pause. Who goes on does so from now: what was missed meanwhile is not made up for.
UPDATE schedules SET enabled = $2, next_at = CASE WHEN $2 AND NOT enabled THEN $3 ELSE next_at END WHERE name = $1
RETURNING name

-- name: remove
DELETE FROM schedules WHERE name = $1 RETURNING name

-- name: due
SELECT name, cron, every_s, timezone, device_ids, kind, request_name, body, priority, enabled, next_at, fired_at, created_by,
       created_at, clock_timestamp() AS now
FROM schedules WHERE enabled AND next_at <= (SELECT clock_timestamp()) ORDER BY next_at LIMIT $1

-- name: fire
-- Move a schedule on from the time that was due, and queue its jobs: whoever moves it makes them, and nobody else. A device whose
-- job of the time before has not ended gets none, and one that is not there any more neither.
WITH held AS (
    UPDATE schedules SET next_at = $3, fired_at = clock_timestamp() WHERE name = $1 AND next_at = $2 AND enabled
    RETURNING device_ids
), made AS (
    INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, inline_body, requested_by,
                      priority, unique_key)
    SELECT i.job_id, $6, $7, d.device_id, $8, '', $9, $10, $11, $12, 'schedule:' || $1, $13, 'schedule:' || $1
    FROM held CROSS JOIN unnest($4::uuid[], $5::text[]) AS i (job_id, device_id) JOIN devices d USING (device_id)
    ORDER BY d.device_id
    ON CONFLICT DO NOTHING
    RETURNING job_id
), noted AS (
    INSERT INTO job_status (job_id, status, detail) SELECT job_id, 'queued', 'schedule ' || $1::text FROM made
)
SELECT EXISTS (SELECT FROM held) AS fired, (SELECT count(*) FROM made) AS made
