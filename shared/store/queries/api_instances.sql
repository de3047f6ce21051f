-- name: heartbeat
-- Say that this API process lives, and count those that do; rows of processes that died long ago are taken away. The
-- snapshot does not hold the row that is written here.
WITH said AS (
    INSERT INTO api_instances (name) VALUES ($1)
    ON CONFLICT (name) DO UPDATE SET heartbeat_at = clock_timestamp()
    RETURNING 1
), dead AS (
    DELETE FROM api_instances WHERE name <> $1 AND heartbeat_at < clock_timestamp() - interval '1 hour'
)
SELECT (SELECT count(*) FROM said) + count(*) AS live FROM api_instances
WHERE name <> $1 AND heartbeat_at > clock_timestamp() - make_interval(secs => $2)

-- name: leave
DELETE FROM api_instances WHERE name = $1
