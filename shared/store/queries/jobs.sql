-- name: insert
-- Queue jobs and begin their histories. Part of the transaction that recorded the files they are for. One that is there was
-- queued by an earlier try, of which only the answer was lost.
WITH input AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
                         $9::text[], $10::double precision[], $11::text[], $12::text[], $13::smallint[])
        AS i (job_id, queue, kind, device_id, store, path, name, size, content_version, detected_age, traceparent, object_id,
              priority)
), made AS (
    INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, detected_at, traceparent,
                      object_id, priority)
    SELECT i.job_id, i.queue, i.kind, i.device_id, i.store, i.path, i.name, i.size, i.content_version,
           clock_timestamp() - make_interval(secs => i.detected_age), i.traceparent, i.object_id, i.priority
    FROM input i
    ON CONFLICT (job_id) DO NOTHING
    RETURNING job_id
)
INSERT INTO job_status (job_id, status) SELECT job_id, 'queued' FROM made

-- name: walk
-- Whose turn it is: up to $2 devices with a job that is due, of one priority: the highest that has any. Within a priority the
-- walk goes round the devices, on from the one where it stood ($4 and $5: ranks and devices), in one step of an index each,
-- however many jobs a device has. A device that has $3 jobs running (0: no bound) is passed over, as is one that a rival claims
-- for now: the lock is held until the commit, so that the statement after this one counts what runs and nobody else adds to it.
-- $6 turns the priorities: by 0 the highest is the first. At most $7 steps.
--
-- The key that is compared and sorted by begins with all that selects, so that no other index gives this order.
WITH RECURSIVE moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), ranks AS (
    (SELECT queue, -priority AS rank FROM jobs
     WHERE current_status IN ('queued', 'retry') AND (queue, -priority) >= ($1::text, (-9)::smallint)
     ORDER BY queue, -priority, device_id, run_at LIMIT 1)
    UNION ALL
    SELECT n.queue, n.rank FROM ranks r CROSS JOIN LATERAL (
        SELECT queue, -priority AS rank FROM jobs
        WHERE current_status IN ('queued', 'retry') AND (queue, -priority) > (r.queue, r.rank)
        ORDER BY queue, -priority, device_id, run_at LIMIT 1
    ) n
    WHERE r.queue = $1
), bands AS (
    SELECT rank, (row_number() OVER (ORDER BY rank) - 1 - $6::bigint % count(*) OVER () + count(*) OVER ()) % count(*) OVER () AS place
    FROM ranks WHERE queue = $1
), parts AS MATERIALIZED (
    SELECT 2 * b.place AS part, b.rank, COALESCE(c.device_id, '') AS after, '~' AS upto
    FROM bands b LEFT JOIN unnest($4::smallint[], $5::text[]) AS c (rank, device_id) USING (rank)
    UNION ALL
    SELECT 2 * b.place + 1, b.rank, '', COALESCE(c.device_id, '')
    FROM bands b LEFT JOIN unnest($4::smallint[], $5::text[]) AS c (rank, device_id) USING (rank)
), walk AS (
    SELECT 0 AS step, 0::bigint AS part, NULL::text COLLATE "C" AS after, NULL::text COLLATE "C" AS device_id,
           NULL::smallint AS rank, NULL::text AS verdict, 0 AS taken
    UNION ALL
    SELECT w.step + 1, CASE WHEN n.device_id IS NULL THEN w.part + 1 ELSE w.part END, n.device_id, n.device_id, p.rank, v.verdict,
           w.taken + (v.verdict = 'open')::integer
    FROM walk w JOIN parts p ON p.part = w.part CROSS JOIN moment m
    LEFT JOIN LATERAL (
        SELECT j.device_id, j.run_at FROM jobs j
        WHERE j.current_status IN ('queued', 'retry')
            AND (j.queue, -j.priority, j.device_id) > ($1, p.rank, COALESCE(w.after, p.after))
            AND (j.queue, -j.priority, j.device_id) <= ($1, p.rank, p.upto)
        ORDER BY j.queue, -j.priority, j.device_id, j.run_at LIMIT 1
    ) n ON true
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN n.device_id IS NULL THEN 'none'
            WHEN n.run_at > m.now THEN 'later'
            WHEN $3::integer = 0 THEN 'open'
            WHEN $3 <= (
                SELECT count(*) FROM (
                    SELECT 1 FROM jobs r
                    WHERE r.current_status = 'running' AND (r.queue, r.device_id) >= ($1, n.device_id)
                        AND (r.queue, r.device_id) <= ($1, n.device_id)
                    ORDER BY r.queue, r.device_id LIMIT $3
                ) counted
            ) THEN 'full'
            WHEN pg_try_advisory_xact_lock(hashtext('turns ' || $1), hashtext(n.device_id) & 1023) THEN 'open'
            ELSE 'busy'
        END AS verdict
    ) v
    WHERE w.taken < $2 AND w.step < $7 AND NOT (n.device_id IS NULL AND w.taken > 0 AND w.part % 2 = 1)
)
SELECT max(rank) FILTER (WHERE verdict = 'open') AS rank,
       array_agg(device_id ORDER BY step) FILTER (WHERE verdict = 'open') AS devices,
       (array_agg(rank ORDER BY step DESC) FILTER (WHERE device_id IS NOT NULL))[1] AS last_rank,
       (array_agg(device_id ORDER BY step DESC) FILTER (WHERE device_id IS NOT NULL))[1] AS last_device,
       COALESCE(bool_or(verdict = 'busy'), false) AS rivals,
       COALESCE(bool_or(verdict = 'full'), false) AS held_back,
       COALESCE(max(step) >= $7 OR max(part) < (SELECT max(part) FROM parts), false) AS unseen
FROM walk

-- name: claim
-- Take running jobs whose lease is over, and with what room is left jobs that are due of the devices that the walk found, each
-- the same share. The raised token ends every earlier claim. The clock is read once, so that it can bound the index scans.
--
-- A job whose worker died with it more than once may be what kills workers, or only was there. Of such suspects at most $9 are
-- taken: one at a time they show which they are, and the others do not lose their attempts with it.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), suspects AS (
    SELECT job_id FROM jobs
    WHERE queue = $1 AND current_status = 'running' AND lease_until < (SELECT now FROM moment) AND attempts > 1
    ORDER BY lease_until LIMIT LEAST($3::integer, $9::integer) FOR UPDATE SKIP LOCKED
), lapsed AS (
    SELECT job_id FROM jobs
    WHERE queue = $1 AND current_status = 'running' AND lease_until < (SELECT now FROM moment) AND attempts <= 1
    ORDER BY lease_until LIMIT $3 - (SELECT count(*) FROM suspects) FOR UPDATE SKIP LOCKED
), expired AS (
    SELECT job_id, true AS is_suspect FROM suspects UNION ALL SELECT job_id, false FROM lapsed
), room AS (
    SELECT $3::bigint - count(*) AS jobs FROM expired
), shares AS MATERIALIZED (
    SELECT d.device_id, r.jobs / cardinality($8::text[]) + (d.place <= r.jobs % cardinality($8::text[]))::integer AS share,
           CASE WHEN $6::integer > 0 THEN $6 - (
               SELECT count(*) FROM (
                   SELECT 1 FROM jobs r
                   WHERE r.current_status = 'running' AND (r.queue, r.device_id) >= ($1, d.device_id)
                       AND (r.queue, r.device_id) <= ($1, d.device_id)
                   ORDER BY r.queue, r.device_id LIMIT $6
               ) counted
           ) ELSE 1000000 END AS allowed
    FROM unnest($8::text[]) WITH ORDINALITY AS d (device_id, place), room r
), due AS (
    SELECT j.job_id, s.device_id, s.share, s.allowed
    FROM shares s CROSS JOIN LATERAL (
        SELECT jobs.job_id FROM jobs
        WHERE current_status IN ('queued', 'retry')
            AND (queue, -priority, device_id, run_at) >= ($1, $7::smallint, s.device_id, '-infinity'::timestamptz)
            AND (queue, -priority, device_id, run_at) <= ($1, $7, s.device_id, (SELECT now FROM moment))
        ORDER BY queue, -priority, device_id, run_at LIMIT GREATEST(LEAST(s.share, s.allowed), 0) FOR UPDATE SKIP LOCKED
    ) j
), chosen AS (
    SELECT job_id, false AS more, false AS held_back, is_suspect FROM expired
    UNION ALL
    SELECT job_id, share < allowed AND count(*) OVER (PARTITION BY device_id) >= share,
           allowed <= share AND count(*) OVER (PARTITION BY device_id) >= allowed, false
    FROM due
), claimed AS (
    UPDATE jobs j SET
        current_status = 'running', lease_token = j.lease_token + 1, worker = $2, attempts = j.attempts + 1,
        lease_until = m.now + make_interval(secs => $4),
        started_at = COALESCE(j.started_at, m.now),
        give_up_at = COALESCE(j.give_up_at, m.now + make_interval(secs => $5))
    FROM moment m WHERE j.job_id = ANY (ARRAY(SELECT job_id FROM chosen))
    RETURNING j.job_id, j.kind, j.device_id, j.store, j.path, j.name, j.size, j.content_version, j.traceparent, j.attempts,
              j.lease_token, j.run_at, j.give_up_at, j.redrives, j.inline_body, j.object_id, m.now
), noted AS (
    INSERT INTO job_status (job_id, status, worker, detail)
    SELECT job_id, 'running', $2, 'attempt ' || attempts FROM claimed
)
SELECT c.job_id, c.kind, c.device_id, c.store, c.path, c.name, c.size, c.content_version, c.traceparent, c.attempts,
       c.lease_token, extract(epoch FROM c.give_up_at - c.now)::double precision AS expires_in_s,
       extract(epoch FROM c.now - c.run_at)::double precision AS waited_s, r.response_id, r.folder, r.store AS response_store, c.redrives,
       c.inline_body, c.object_id, chosen.is_suspect, chosen.more, chosen.held_back
FROM claimed c JOIN chosen USING (job_id) LEFT JOIN responses r ON r.job_id = c.job_id

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

-- name: cancelled
-- Those among a worker's jobs that somebody cancelled.
SELECT job_id FROM jobs WHERE job_id = ANY ($1::uuid[]) AND current_status = 'cancelled'

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
-- Queue a job whose request is in its row, for a device that exists. One that is there was queued by an earlier try; one with
-- its unique key that has not ended does the same work.
WITH made AS (
    INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version, inline_body, requested_by,
                      priority, unique_key)
    SELECT $1, $2, $3, d.device_id, $5, $6, $7, $8, $9, $10, $11, $12, $13
    FROM devices d WHERE d.device_id = $4
    ON CONFLICT DO NOTHING
    RETURNING job_id
), noted AS (
    INSERT INTO job_status (job_id, status, detail) SELECT job_id, 'queued', 'requested by ' || $11::text FROM made
)
SELECT job_id FROM made

-- name: why_not_made
-- Why an insert made no job; in a statement after it, so that a rival's commit is seen.
SELECT CASE WHEN EXISTS (SELECT FROM jobs WHERE job_id = $1) THEN 'known'
            WHEN EXISTS (SELECT FROM devices WHERE device_id = $2) THEN 'taken'
            ELSE 'unknown_device' END

-- name: unfinished
-- The one job with this key that has not ended.
SELECT job_id FROM jobs
WHERE device_id = $1 AND unique_key = $2 AND current_status IN ('queued', 'running', 'retry')

-- name: depth
-- What waits in a queue: how many, counted up to $2, and for how many seconds the oldest could have run.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
)
SELECT count(*) AS waiting, COALESCE(extract(epoch FROM clock_timestamp() - min(run_at)), 0)::double precision AS oldest_s
FROM (
    SELECT run_at FROM jobs
    WHERE current_status IN ('queued', 'retry') AND attempts >= 0
        AND (queue, run_at) >= ($1, '-infinity'::timestamptz) AND (queue, run_at) <= ($1, (SELECT now FROM moment))
    ORDER BY queue, run_at LIMIT $2
) first

-- name: get
SELECT job_id, queue, kind, device_id, store, path, name, size, content_version, current_status, attempts, lease_token,
       worker, error, detected_at, created_at, started_at, finished_at
FROM jobs WHERE job_id = $1

-- name: history
-- Newest first.
SELECT ts, status, worker, detail FROM job_status WHERE job_id = $1 ORDER BY ts DESC, id DESC LIMIT $2
