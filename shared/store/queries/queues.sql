-- name: state
-- Queues with something in them or to tell of: what waits, what waits for its time, what runs, how long the first of those
-- counted could have run. At most $1 rows of each kind are counted.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), waiting AS (
    SELECT queue, run_at FROM jobs WHERE current_status IN ('queued', 'retry') LIMIT $1
), running AS (
    SELECT queue FROM jobs WHERE current_status = 'running' LIMIT $1
), counted AS (
    SELECT queue, count(*) FILTER (WHERE run_at <= now) AS waiting, count(*) FILTER (WHERE run_at > now) AS delayed,
           0 AS running, min(run_at) FILTER (WHERE run_at <= now) AS first
    FROM waiting, moment GROUP BY queue
    UNION ALL
    SELECT queue, 0, 0, count(*), NULL FROM running GROUP BY queue
)
SELECT queue, sum(waiting)::bigint AS waiting, sum(delayed)::bigint AS delayed, sum(running)::bigint AS running,
       COALESCE(extract(epoch FROM max(now - first)), 0)::double precision AS oldest_s
FROM counted, moment GROUP BY queue ORDER BY queue

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
