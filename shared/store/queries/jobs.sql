-- name: insert
-- Queue jobs and begin their histories. Part of the transaction that recorded the files they are for. One that is there was
-- queued by an earlier try, of which only the answer was lost.
WITH input AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
                         $9::text[], $10::double precision[], $11::text[], $12::text[])
        AS i (job_id, queue, kind, device_id, store, path, name, size, content_version, detected_age, traceparent, object_id)
), made AS (
    INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, detected_at, traceparent,
                      object_id)
    SELECT i.job_id, i.queue, i.kind, i.device_id, i.store, i.path, i.name, i.size, i.content_version,
           clock_timestamp() - make_interval(secs => i.detected_age), i.traceparent, i.object_id
    FROM input i
    ON CONFLICT (job_id) DO NOTHING
    RETURNING job_id
)
INSERT INTO job_status (job_id, status) SELECT job_id, 'queued' FROM made

-- name: claim
-- Take jobs that are due, and running ones whose lease is over, up to a limit. The raised token ends every earlier claim. The
-- clock is read once, so that it can bound the index scans.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), expired AS (
    SELECT job_id FROM jobs
    WHERE queue = $1 AND current_status = 'running' AND lease_until < (SELECT now FROM moment)
    ORDER BY lease_until LIMIT $3 FOR UPDATE SKIP LOCKED
), due AS (
    SELECT job_id FROM jobs
    WHERE queue = $1 AND current_status IN ('queued', 'retry') AND run_at <= (SELECT now FROM moment)
    ORDER BY run_at LIMIT $3 FOR UPDATE SKIP LOCKED
), chosen AS (
    SELECT job_id FROM (SELECT job_id FROM expired UNION ALL SELECT job_id FROM due) c LIMIT $3
), claimed AS (
    UPDATE jobs j SET
        current_status = 'running', lease_token = j.lease_token + 1, worker = $2, attempts = j.attempts + 1,
        lease_until = m.now + make_interval(secs => $4),
        started_at = COALESCE(j.started_at, m.now),
        give_up_at = COALESCE(j.give_up_at, m.now + make_interval(secs => $5))
    FROM chosen, moment m WHERE j.job_id = chosen.job_id
    RETURNING j.job_id, j.kind, j.device_id, j.store, j.path, j.name, j.size, j.content_version, j.traceparent, j.attempts,
              j.lease_token, j.run_at, j.give_up_at, j.redrives, j.inline_body, j.object_id, m.now
), noted AS (
    INSERT INTO job_status (job_id, status, worker, detail)
    SELECT job_id, 'running', $2, 'attempt ' || attempts FROM claimed
)
SELECT c.job_id, c.kind, c.device_id, c.store, c.path, c.name, c.size, c.content_version, c.traceparent, c.attempts,
       c.lease_token, extract(epoch FROM c.give_up_at - c.now)::double precision AS expires_in_s,
       extract(epoch FROM c.now - c.run_at)::double precision AS waited_s, r.response_id, r.folder, r.store AS response_store, c.redrives,
       c.inline_body, c.object_id
FROM claimed c LEFT JOIN responses r ON r.job_id = c.job_id

-- name: renew
-- All leases of one worker at once; what is not returned is another's now, or ended.
WITH held AS (
    SELECT j.job_id FROM jobs j
    JOIN unnest($1::uuid[], $2::bigint[]) AS h (job_id, lease_token)
        ON h.job_id = j.job_id AND h.lease_token = j.lease_token
    WHERE j.current_status = 'running'
    ORDER BY j.job_id FOR NO KEY UPDATE OF j
)
UPDATE jobs j SET lease_until = clock_timestamp() + make_interval(secs => $3)
FROM held WHERE j.job_id = held.job_id
RETURNING j.job_id

-- name: finish
-- Jobs that came to an end: done, or dead with its error. Only what is returned may have consequences in this transaction.
WITH held AS (
    SELECT j.job_id, h.status, h.error FROM jobs j
    JOIN unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS h (job_id, lease_token, status, error)
        ON h.job_id = j.job_id AND h.lease_token = j.lease_token
    WHERE j.current_status = 'running'
    ORDER BY j.job_id FOR NO KEY UPDATE OF j
), finished AS (
    UPDATE jobs j SET current_status = held.status, error = held.error, lease_until = NULL, finished_at = clock_timestamp()
    FROM held WHERE j.job_id = held.job_id
    RETURNING j.job_id, j.current_status, j.worker, j.error,
              j.finished_at - GREATEST(COALESCE(j.detected_at, j.created_at), j.redriven_at) AS age
), noted AS (
    INSERT INTO job_status (job_id, status, worker, detail)
    SELECT job_id, current_status, worker, error FROM finished
)
SELECT job_id, extract(epoch FROM age)::double precision AS age_s FROM finished

-- name: retry
-- Queue a failed job again after a delay. An attempt that does not count is as if it had not been made.
WITH held AS (
    UPDATE jobs SET current_status = 'retry', error = $3, lease_until = NULL,
        run_at = clock_timestamp() + make_interval(secs => $4),
        attempts = CASE WHEN $5 THEN attempts ELSE GREATEST(attempts - 1, 0) END
    WHERE job_id = $1 AND lease_token = $2 AND current_status = 'running'
    RETURNING job_id, worker, error
), noted AS (
    INSERT INTO job_status (job_id, status, worker, detail) SELECT job_id, 'retry', worker, error FROM held
)
SELECT job_id FROM held

-- name: release
-- Give jobs back unfinished, as if they had not been claimed: the attempt does not count.
WITH held AS (
    SELECT j.job_id FROM jobs j
    JOIN unnest($1::uuid[], $2::bigint[]) AS h (job_id, lease_token)
        ON h.job_id = j.job_id AND h.lease_token = j.lease_token
    WHERE j.current_status = 'running'
    ORDER BY j.job_id FOR NO KEY UPDATE OF j
), released AS (
    UPDATE jobs j SET current_status = 'retry', lease_until = NULL, run_at = clock_timestamp(),
        attempts = GREATEST(j.attempts - 1, 0)
    FROM held WHERE j.job_id = held.job_id
    RETURNING j.job_id, j.worker
), noted AS (
    INSERT INTO job_status (job_id, status, worker, detail)
    SELECT job_id, 'retry', worker, 'released by a worker that stops' FROM released
)
SELECT job_id FROM released

-- name: cancel
-- End a job that has not ended. The raised token takes it from the worker that runs it. The detail is for its history.
WITH held AS (
    UPDATE jobs SET current_status = 'cancelled', error = $2, lease_token = lease_token + 1, lease_until = NULL,
        finished_at = clock_timestamp()
    WHERE job_id = $1 AND current_status IN ('queued', 'running', 'retry')
    RETURNING job_id, device_id, name, store, path, traceparent, redrives
), noted AS (
    INSERT INTO job_status (job_id, status, detail) SELECT job_id, 'cancelled', $3 FROM held
)
SELECT * FROM held

-- name: redrive
-- Queue a dead job anew, with fresh attempts and a fresh time to live. The raised number makes its next end another event
-- than its last one; the raised token ends every earlier claim.
WITH held AS (
    UPDATE jobs SET current_status = 'queued', run_at = clock_timestamp(), give_up_at = NULL, attempts = 0, error = NULL,
        worker = NULL, lease_token = lease_token + 1, lease_until = NULL, started_at = NULL, finished_at = NULL,
        redrives = redrives + 1, redriven_at = clock_timestamp()
    WHERE job_id = $1 AND current_status = 'dead'
    RETURNING job_id, queue
), noted AS (
    INSERT INTO job_status (job_id, status, detail) SELECT job_id, 'queued', $2 FROM held
)
SELECT queue FROM held

-- name: insert_inline
-- Queue a job whose request is in its row, for a device that exists. One that is there was queued by an earlier try.
WITH made AS (
    INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, inline_body, requested_by)
    SELECT $1, $2, $3, d.device_id, $5, $6, $7, $8, $9, $10, $11
    FROM devices d WHERE d.device_id = $4
    ON CONFLICT (job_id) DO NOTHING
    RETURNING job_id
), noted AS (
    INSERT INTO job_status (job_id, status, detail) SELECT job_id, 'queued', 'requested by ' || $11::text FROM made
)
SELECT job_id FROM made

-- name: exists
-- Whether the job is there; after an insert that made none, so that a rival's commit is seen.
SELECT job_id FROM jobs WHERE job_id = $1

-- name: depth
-- What waits in a queue: how many, and for how many seconds the oldest could have run.
SELECT count(*) AS waiting,
       COALESCE(extract(epoch FROM clock_timestamp() - min(run_at)), 0)::double precision AS oldest_s
FROM jobs
WHERE queue = $1 AND current_status IN ('queued', 'retry') AND run_at <= (SELECT clock_timestamp())

-- name: get
SELECT job_id, queue, kind, device_id, store, path, name, size, content_version, current_status, attempts, lease_token,
       worker, error, detected_at, created_at, started_at, finished_at
FROM jobs WHERE job_id = $1

-- name: history
-- Newest first.
SELECT ts, status, worker, detail FROM job_status WHERE job_id = $1 ORDER BY ts DESC, id DESC LIMIT $2
