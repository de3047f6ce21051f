-- Templates: the newest of each, and every version there was.

-- name: page
-- Newest first, since their ids are made in order of time.
SELECT template_id, name, version, created_at, updated_at
FROM templates WHERE template_id < $1
ORDER BY template_id DESC LIMIT $2

-- name: read
-- The newest version; its body only if it is not the one that is known already.
SELECT template_id, name, version, created_at, updated_at,
       CASE WHEN version = $2 AND updated_at = $3 THEN NULL ELSE body END AS body
FROM templates WHERE template_id = $1

-- name: read_version
-- One version, as it was when it was the newest.
SELECT t.template_id, v.name, v.version, t.created_at, v.created_at AS updated_at, v.body
FROM template_versions v JOIN templates t ON t.template_id = v.template_id
WHERE v.template_id = $1 AND v.version = $2

-- name: create
WITH made AS (
    INSERT INTO templates (template_id, name, version, body, created_at, updated_at)
    SELECT $1, $2, 1, $3, now.at, now.at FROM (SELECT clock_timestamp() AS at) now
    RETURNING template_id, name, version, created_at, updated_at, body
), kept AS (
    INSERT INTO template_versions (template_id, version, name, body, created_by, created_at)
    SELECT template_id, version, name, body, $4, updated_at FROM made
)
SELECT * FROM made

-- name: change
-- One version more, if the newest is one of those that the author has seen. Times never repeat, so that a version and its time
-- name one content even after a restored backup has given out a number again.
WITH changed AS (
    UPDATE templates
    SET name = $3, body = $4, version = version + 1,
        updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
    WHERE template_id = $1 AND ($2::integer[] IS NULL OR version = ANY ($2))
    RETURNING template_id, name, version, created_at, updated_at, body
), kept AS (
    INSERT INTO template_versions (template_id, version, name, body, created_by, created_at)
    SELECT template_id, version, name, body, $5, updated_at FROM changed
)
SELECT * FROM changed

-- name: outdated
-- Which of these are not the newest any more. What is read is no more than was asked for.
SELECT k.template_id
FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[]) AS k (template_id, version, updated_at)
LEFT JOIN templates t ON t.template_id = k.template_id
WHERE (t.version, t.updated_at) IS DISTINCT FROM (k.version, k.updated_at)
