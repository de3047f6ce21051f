-- name: of_job
-- All that is known of how far a job has come, and what the database's clock says.
SELECT j.job_id, j.device_id, j.name, j.queue, j.current_status AS status, j.worker, j.attempts, j.traceparent, j.error,
       j.detected_at, j.created_at, j.started_at, j.finished_at, j.run_at, j.lease_until, r.event_id, clock_timestamp() AS now
FROM jobs j LEFT JOIN responses r ON r.job_id = j.job_id AND r.completed_at IS NOT NULL
WHERE j.job_id = $1

-- name: newest_job
-- The newest job of a device's file, among so many of the file's name.
SELECT job_id FROM (
    SELECT job_id, device_id, created_at FROM jobs WHERE name = $2 ORDER BY job_id DESC LIMIT 1000
) named
WHERE device_id = $1 ORDER BY created_at DESC, job_id DESC LIMIT 1

-- name: of_event
-- An event of a device, among its newest, and where the device's cursor is. No event, and the row has no seq.
SELECT d.device_id, e.seq, e.event_id, e.type, e.recorded_at, e.body, d.floor_seq AS floor, d.head_seq AS head,
       c.acked_seq AS acked, c.acked_at, c.hub, c.connected_at, c.disconnected_at,
       extract(epoch FROM clock_timestamp() - h.heartbeat_at)::double precision AS hub_silent_s, clock_timestamp() AS now
FROM devices d JOIN cursors c USING (device_id)
LEFT JOIN hubs h ON h.name = c.hub
LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT seq, event_id, type, recorded_at, body FROM events
        WHERE device_id = $1 ORDER BY seq DESC LIMIT 5000
    ) newest
    WHERE newest.event_id = $2 LIMIT 1
) e ON true
WHERE d.device_id = $1
