-- What a page shows of the whole fleet. Each is asked at most once in a while however many look, and is bounded by what
-- it returns or by how often it is asked (`census`).

-- name: hubs
-- Hubs that live, and those that have fallen silent within the hour without saying goodbye.
SELECT name, instance, url, connections, capacity, draining, ops_url, leaving,
       extract(epoch FROM clock_timestamp() - heartbeat_at)::double precision AS silent_s,
       extract(epoch FROM clock_timestamp() - started_at)::double precision AS up_s
FROM hubs WHERE heartbeat_at > clock_timestamp() - interval '1 hour'
ORDER BY name LIMIT 256

-- name: devices
-- The devices that are looked at now.
SELECT d.device_id, d.class, d.epoch, d.head_seq, d.floor_seq, c.acked_seq, c.hub, c.flaps,
       extract(epoch FROM clock_timestamp() - c.acked_at)::double precision AS acked_s,
       extract(epoch FROM clock_timestamp() - c.connected_at)::double precision AS connected_s,
       extract(epoch FROM clock_timestamp() - c.disconnected_at)::double precision AS away_s
FROM devices d JOIN cursors c ON c.device_id = d.device_id
WHERE d.device_id = ANY ($1::text[])

-- name: list
-- Ids of devices from one on, in order. $1 begins the walk, $2 ends it; 5,000 are looked at, at most. What is asked of each:
-- its class ($4), where it is ($5), and $6: connected, away or behind. The last one looked at comes too, matching or not.
SELECT device_id, matches, walked FROM (
    SELECT w.device_id, row_number() OVER (ORDER BY w.device_id) AS walked,
           ($4::text IS NULL OR w.class = $4) AND ($5::text IS NULL OR c.hub = $5)
           AND CASE $6::text WHEN 'connected' THEN c.hub IS NOT NULL WHEN 'away' THEN c.hub IS NULL
                             WHEN 'behind' THEN c.acked_seq < w.head_seq ELSE true END AS matches
    FROM (
        SELECT device_id, class, head_seq FROM devices
        WHERE device_id > $1 AND device_id < $2 ORDER BY device_id LIMIT 5000
    ) w
    JOIN cursors c ON c.device_id = w.device_id
) judged
WHERE matches OR walked = 5000
ORDER BY device_id
LIMIT $3

-- name: census
-- All devices at once: asked seldom, the more seldom the longer it takes.
SELECT count(*) AS devices, count(*) FILTER (WHERE c.hub IS NOT NULL) AS connected,
       count(*) FILTER (WHERE c.acked_seq < d.head_seq) AS behind,
       count(*) FILTER (WHERE c.acked_seq < d.head_seq AND c.hub IS NOT NULL) AS behind_here,
       COALESCE(sum(GREATEST(d.head_seq - GREATEST(c.acked_seq, d.floor_seq), 0)), 0)::bigint AS backlog,
       COALESCE(sum(d.head_seq), 0)::bigint AS recorded,
       max(d.epoch) AS epoch
FROM devices d JOIN cursors c ON c.device_id = d.device_id

-- name: feeds
-- Feeds together that have one provider, root and owner. `stale_s` is the age of the one whose last look is longest ago.
SELECT f.provider, f.root, CASE WHEN l.expires_at > moment.now THEN l.owner END AS owner, count(*) AS feeds,
       min(l.term) AS term_min, max(l.term) AS term_max,
       extract(epoch FROM moment.now - min(GREATEST(f.polled_at, f.scanned_at)))::double precision AS stale_s,
       extract(epoch FROM moment.now - max(f.changed_at))::double precision AS changed_s,
       count(*) FILTER (WHERE f.phase <> 'changes') AS in_full, count(*) FILTER (WHERE f.more) AS more
FROM (SELECT clock_timestamp() AS now) moment, feeds f LEFT JOIN leases l ON l.name = f.feed_id
GROUP BY f.provider, f.root, CASE WHEN l.expires_at > moment.now THEN l.owner END, moment.now
ORDER BY f.provider, f.root, owner LIMIT 200

-- name: stages
-- How long the newest jobs that ended within five minutes took from stage to stage, in seconds; of 500 at most.
WITH newest AS (
    SELECT detected_at, created_at, started_at, finished_at FROM jobs ORDER BY created_at DESC, job_id DESC LIMIT 500
), ended AS (
    SELECT extract(epoch FROM created_at - detected_at)::double precision AS recorded,
           extract(epoch FROM started_at - created_at)::double precision AS claimed,
           extract(epoch FROM finished_at - started_at)::double precision AS answered
    FROM newest WHERE finished_at > clock_timestamp() - interval '5 minutes'
)
SELECT count(*) AS jobs,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY GREATEST(recorded, 0)) AS recorded,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY GREATEST(claimed, 0)) AS claimed,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY GREATEST(answered, 0)) AS answered
FROM ended

-- name: dead
-- Jobs that ended dead: a thousand are counted, at most.
SELECT count(*) AS dead FROM (SELECT FROM jobs WHERE current_status = 'dead' LIMIT 1000) counted

-- name: job_files
-- The files of a job's response, once it is finished.
SELECT f.file_id, f.name, f.size, f.sha256, f.content_type
FROM responses r JOIN response_files f ON f.response_id = r.response_id
WHERE r.job_id = $1 AND r.completed_at IS NOT NULL
ORDER BY f.path LIMIT 500
