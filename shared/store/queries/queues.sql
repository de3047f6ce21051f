-- name: state
-- Queues with something in them: what waits, what waits for its time, what runs, how long the oldest could have run. Each
-- count ends at $1. The names are found in one step of an index for each queue, and a queue's jobs are read in the order of an
-- index up to the bound: neither hides a small queue behind a large one.
WITH RECURSIVE moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), waiting AS (
    (SELECT queue FROM jobs WHERE current_status IN ('queued', 'retry') AND attempts >= 0 ORDER BY queue, run_at LIMIT 1)
    UNION ALL
    SELECT n.queue FROM waiting w CROSS JOIN LATERAL (
        SELECT queue FROM jobs WHERE current_status IN ('queued', 'retry') AND attempts >= 0 AND queue > w.queue
        ORDER BY queue, run_at LIMIT 1
    ) n
), running AS (
    (SELECT queue FROM jobs WHERE current_status = 'running' ORDER BY queue, device_id LIMIT 1)
    UNION ALL
    SELECT n.queue FROM running r CROSS JOIN LATERAL (
        SELECT queue FROM jobs WHERE current_status = 'running' AND queue > r.queue ORDER BY queue, device_id LIMIT 1
    ) n
), names AS (
    SELECT queue FROM waiting UNION SELECT queue FROM running
)
SELECT n.queue, d.jobs AS waiting, l.jobs AS delayed, r.jobs AS running,
       COALESCE(extract(epoch FROM m.now - d.first), 0)::double precision AS oldest_s
FROM names n CROSS JOIN moment m
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs, min(run_at) AS first FROM (
        SELECT run_at FROM jobs WHERE current_status IN ('queued', 'retry') AND attempts >= 0
            AND (queue, run_at) >= (n.queue, '-infinity'::timestamptz) AND (queue, run_at) <= (n.queue, m.now)
        ORDER BY queue, run_at LIMIT $1
    ) j
) d
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT 1 FROM jobs WHERE current_status IN ('queued', 'retry') AND attempts >= 0
            AND (queue, run_at) > (n.queue, m.now) AND (queue, run_at) <= (n.queue, 'infinity'::timestamptz)
        ORDER BY queue, run_at LIMIT $1
    ) j
) l
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT 1 FROM jobs WHERE current_status = 'running' AND (queue, device_id) >= (n.queue, '')
            AND (queue, device_id) <= (n.queue, '~')
        ORDER BY queue, device_id LIMIT $1
    ) j
) r
ORDER BY n.queue

-- name: changes
-- How often jobs of each queue changed into each state lately: among the newest $1 changes, those of the last $2 seconds.
-- `span_s` is the time that is really covered: less when more than $1 happened.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), newest AS MATERIALIZED (
    SELECT job_id, status, ts FROM job_status ORDER BY id DESC LIMIT $1
), span AS (
    SELECT CASE WHEN count(*) < $1 THEN $2::double precision
                ELSE LEAST($2::double precision, extract(epoch FROM now - min(ts))::double precision) END AS seconds
    FROM newest, moment GROUP BY now
)
SELECT j.queue, n.status, count(*) AS changes, max(s.seconds)::double precision AS span_s
FROM newest n JOIN jobs j USING (job_id), span s, moment
WHERE n.ts > moment.now - make_interval(secs => $2::double precision)
GROUP BY j.queue, n.status
