-- name: prune
-- Delete some of the jobs in state $1 that ended more than $2 hours ago, with their histories. The oldest of a state are the first
-- of an index; a job that somebody queues anew just now is passed over.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() - make_interval(hours => $2) AS until
), old AS (
    SELECT job_id FROM jobs
    WHERE (current_status, created_at) >= ($1, '-infinity'::timestamptz)
        AND (current_status, created_at) < ($1, (SELECT until FROM moment))
        AND finished_at < (SELECT until FROM moment)
    ORDER BY current_status, created_at, job_id LIMIT $3 FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs WHERE job_id = ANY (ARRAY(SELECT job_id FROM old)) AND current_status = $1
RETURNING job_id
