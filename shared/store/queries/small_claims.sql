-- name: claim_new
-- Take one job that nobody took yet, whose request is in its row. The same compare-and-set as any claim: the raised token ends
-- every other's.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), due AS (
    SELECT job_id FROM jobs
    WHERE job_id = $1 AND current_status = 'queued' AND attempts = 0 AND inline_body IS NOT NULL
        AND run_at <= (SELECT now FROM moment)
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE jobs j SET
        current_status = 'running', lease_token = j.lease_token + 1, worker = $2, attempts = 1,
        lease_until = m.now + make_interval(secs => $3),
        started_at = COALESCE(j.started_at, m.now),
        give_up_at = COALESCE(j.give_up_at, m.now + make_interval(secs => $4))
    FROM due, moment m WHERE j.job_id = due.job_id
    RETURNING j.*, m.now
), noted AS (
    INSERT INTO job_status (job_id, status, worker, detail) SELECT job_id, 'running', $2, 'attempt 1' FROM claimed
)
SELECT job_id, queue, kind, device_id, store, path, name, size, content_version, traceparent, attempts AS attempt, lease_token,
       extract(epoch FROM give_up_at - now)::double precision AS expires_in_s,
       extract(epoch FROM now - run_at)::double precision AS waited_s, redrives, inline_body, object_id
FROM claimed
