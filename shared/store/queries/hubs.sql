-- name: heartbeat
-- A hub's row is its membership. A restarted hub (new instance) takes its name over. The same statement looks at the
-- others: its snapshot does not hold the row it writes, so that one comes from RETURNING.
WITH said AS (
    INSERT INTO hubs (name, instance, url, connections, capacity, draining, ops_url, leaving)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (name) DO UPDATE SET
        instance = EXCLUDED.instance, url = EXCLUDED.url, connections = EXCLUDED.connections,
        capacity = EXCLUDED.capacity, draining = EXCLUDED.draining, ops_url = EXCLUDED.ops_url,
        leaving = EXCLUDED.leaving, heartbeat_at = clock_timestamp(),
        started_at = CASE WHEN hubs.instance = EXCLUDED.instance THEN hubs.started_at ELSE clock_timestamp() END
    RETURNING name, instance, url, connections, capacity, draining, ops_url, leaving
)
SELECT * FROM said
UNION ALL
SELECT name, instance, url, connections, capacity, draining, ops_url, leaving FROM hubs
WHERE name <> $1 AND heartbeat_at > clock_timestamp() - make_interval(secs => $9)
ORDER BY name

-- name: leave
DELETE FROM hubs WHERE name = $1 AND instance = $2

-- name: live
SELECT name, instance, url, connections, capacity, draining, ops_url, leaving FROM hubs
WHERE heartbeat_at > clock_timestamp() - make_interval(secs => $1)
ORDER BY name
