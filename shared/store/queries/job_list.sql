-- Lists of jobs. Each walks one index from a key and returns the rows that match up to a limit.
--
-- What selects the index stands in the key that is compared and sorted by, and not as an equation beside it: so no other index
-- gives this order, and no estimate, however wrong, makes the planner read all of the newest jobs to find a few rare ones. The
-- second bound is the other end of the range of times or names.
--
-- Where a second filter is checked, 5,000 rows are walked at most. That is done within the index, which has what is checked;
-- the jobs themselves are read only for what is returned. The last row of a walk that was cut off comes too, matching or not:
-- from there the next call goes on.

-- name: created_descending
-- Newest first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (created_at, job_id) < ($1, $2) AND created_at >= $3
ORDER BY created_at DESC, job_id DESC
LIMIT $4

-- name: created_ascending
-- Oldest first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (created_at, job_id) > ($1, $2) AND created_at < $3
ORDER BY created_at, job_id
LIMIT $4

-- name: status_descending
-- Of one status, newest first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (current_status, created_at, job_id) < ($1, $2, $3) AND (current_status, created_at) >= ($1, $4)
ORDER BY current_status DESC, created_at DESC, job_id DESC
LIMIT $5

-- name: status_ascending
-- Of one status, oldest first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (current_status, created_at, job_id) > ($1, $2, $3) AND (current_status, created_at) < ($1, $4)
ORDER BY current_status, created_at, job_id
LIMIT $5

-- name: kind_descending
-- Of one kind, newest first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (kind, created_at, job_id) < ($1, $2, $3) AND (kind, created_at) >= ($1, $4)
ORDER BY kind DESC, created_at DESC, job_id DESC
LIMIT $5

-- name: kind_ascending
-- Of one kind, oldest first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (kind, created_at, job_id) > ($1, $2, $3) AND (kind, created_at) < ($1, $4)
ORDER BY kind, created_at, job_id
LIMIT $5

-- name: device_descending
-- Of one device, newest first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (device_id, created_at, job_id) < ($1, $2, $3) AND (device_id, created_at) >= ($1, $4)
ORDER BY device_id DESC, created_at DESC, job_id DESC
LIMIT $5

-- name: device_ascending
-- Of one device, oldest first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (device_id, created_at, job_id) > ($1, $2, $3) AND (device_id, created_at) < ($1, $4)
ORDER BY device_id, created_at, job_id
LIMIT $5

-- name: name_descending
-- By name, as bytes compare, last first.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (name, job_id) < ($1, $2) AND name >= $3
ORDER BY name DESC, job_id DESC
LIMIT $4

-- name: name_ascending
-- By name, as bytes compare.
SELECT job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at,
       true AS matches, 0 AS walked
FROM jobs
WHERE (name, job_id) > ($1, $2) AND name < $3
ORDER BY name, job_id
LIMIT $4

-- name: status_checked_descending
-- Of one status, newest first, with a kind checked on the way.
SELECT w.job_id, j.device_id, j.kind, j.name, j.current_status, j.attempts, j.size, w.created_at, j.started_at, j.finished_at,
       w.matches, w.walked
FROM (
    SELECT * FROM (
        SELECT *, kind = $6 AS matches, row_number() OVER () AS walked
        FROM (
            SELECT current_status, created_at, job_id, kind FROM jobs
            WHERE (current_status, created_at, job_id) < ($1, $2, $3) AND (current_status, created_at) >= ($1, $4)
            ORDER BY current_status DESC, created_at DESC, job_id DESC LIMIT 5000
        ) looked_at
    ) judged
    WHERE matches OR walked = 5000
    LIMIT $5
) w
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.job_id = w.job_id LIMIT 1) j
ORDER BY w.walked

-- name: status_checked_ascending
-- Of one status, oldest first, with a kind checked on the way.
SELECT w.job_id, j.device_id, j.kind, j.name, j.current_status, j.attempts, j.size, w.created_at, j.started_at, j.finished_at,
       w.matches, w.walked
FROM (
    SELECT * FROM (
        SELECT *, kind = $6 AS matches, row_number() OVER () AS walked
        FROM (
            SELECT current_status, created_at, job_id, kind FROM jobs
            WHERE (current_status, created_at, job_id) > ($1, $2, $3) AND (current_status, created_at) < ($1, $4)
            ORDER BY current_status, created_at, job_id LIMIT 5000
        ) looked_at
    ) judged
    WHERE matches OR walked = 5000
    LIMIT $5
) w
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.job_id = w.job_id LIMIT 1) j
ORDER BY w.walked

-- name: kind_checked_descending
-- Of one kind, newest first, with a status checked on the way.
SELECT w.job_id, j.device_id, j.kind, j.name, j.current_status, j.attempts, j.size, w.created_at, j.started_at, j.finished_at,
       w.matches, w.walked
FROM (
    SELECT * FROM (
        SELECT *, current_status = $6 AS matches, row_number() OVER () AS walked
        FROM (
            SELECT kind, created_at, job_id, current_status FROM jobs
            WHERE (kind, created_at, job_id) < ($1, $2, $3) AND (kind, created_at) >= ($1, $4)
            ORDER BY kind DESC, created_at DESC, job_id DESC LIMIT 5000
        ) looked_at
    ) judged
    WHERE matches OR walked = 5000
    LIMIT $5
) w
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.job_id = w.job_id LIMIT 1) j
ORDER BY w.walked

-- name: kind_checked_ascending
-- Of one kind, oldest first, with a status checked on the way.
SELECT w.job_id, j.device_id, j.kind, j.name, j.current_status, j.attempts, j.size, w.created_at, j.started_at, j.finished_at,
       w.matches, w.walked
FROM (
    SELECT * FROM (
        SELECT *, current_status = $6 AS matches, row_number() OVER () AS walked
        FROM (
            SELECT kind, created_at, job_id, current_status FROM jobs
            WHERE (kind, created_at, job_id) > ($1, $2, $3) AND (kind, created_at) < ($1, $4)
            ORDER BY kind, created_at, job_id LIMIT 5000
        ) looked_at
    ) judged
    WHERE matches OR walked = 5000
    LIMIT $5
) w
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.job_id = w.job_id LIMIT 1) j
ORDER BY w.walked

-- name: device_checked_descending
-- Of one device, newest first, with a status, a kind or both checked on the way.
SELECT w.job_id, j.device_id, j.kind, j.name, j.current_status, j.attempts, j.size, w.created_at, j.started_at, j.finished_at,
       w.matches, w.walked
FROM (
    SELECT * FROM (
        SELECT *, ($6::text IS NULL OR current_status = $6) AND ($7::text IS NULL OR kind = $7) AS matches,
               row_number() OVER () AS walked
        FROM (
            SELECT device_id, created_at, job_id, current_status, kind FROM jobs
            WHERE (device_id, created_at, job_id) < ($1, $2, $3) AND (device_id, created_at) >= ($1, $4)
            ORDER BY device_id DESC, created_at DESC, job_id DESC LIMIT 5000
        ) looked_at
    ) judged
    WHERE matches OR walked = 5000
    LIMIT $5
) w
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.job_id = w.job_id LIMIT 1) j
ORDER BY w.walked

-- name: device_checked_ascending
-- Of one device, oldest first, with a status, a kind or both checked on the way.
SELECT w.job_id, j.device_id, j.kind, j.name, j.current_status, j.attempts, j.size, w.created_at, j.started_at, j.finished_at,
       w.matches, w.walked
FROM (
    SELECT * FROM (
        SELECT *, ($6::text IS NULL OR current_status = $6) AND ($7::text IS NULL OR kind = $7) AS matches,
               row_number() OVER () AS walked
        FROM (
            SELECT device_id, created_at, job_id, current_status, kind FROM jobs
            WHERE (device_id, created_at, job_id) > ($1, $2, $3) AND (device_id, created_at) < ($1, $4)
            ORDER BY device_id, created_at, job_id LIMIT 5000
        ) looked_at
    ) judged
    WHERE matches OR walked = 5000
    LIMIT $5
) w
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.job_id = w.job_id LIMIT 1) j
ORDER BY w.walked

-- name: job
-- All there is to say about one job.
SELECT j.job_id, j.device_id, j.kind, j.name, j.current_status, j.attempts, j.size, j.created_at, j.started_at, j.finished_at,
       j.queue, j.error, j.worker, j.requested_by, j.redrives, j.detected_at,
       CASE WHEN j.current_status IN ('queued', 'retry') THEN j.run_at END AS run_at, j.give_up_at,
       r.outcome, r.event_id, j.priority, j.unique_key
FROM jobs j LEFT JOIN responses r ON r.job_id = j.job_id AND r.completed_at IS NOT NULL
WHERE j.job_id = $1

-- name: history
-- Changes of a job's state, newest first, after a given key.
SELECT id, ts, status, worker, detail FROM job_status
WHERE job_id = $1 AND (ts, id) < ($2, $3)
ORDER BY ts DESC, id DESC
LIMIT $4
