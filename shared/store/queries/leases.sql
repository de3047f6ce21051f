-- name: ensure
INSERT INTO leases (name) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING

-- name: claim
-- Take what is free, up to a limit, and begin a new term. FOR UPDATE passes over leases under which an effect is being
-- committed right now; they are tried again at the next scan.
WITH free AS (
    SELECT name FROM leases
    WHERE name = ANY ($1::text[]) AND expires_at <= clock_timestamp()
    ORDER BY name LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE leases l SET owner = $2, term = l.term + 1, expires_at = clock_timestamp() + make_interval(secs => $3)
FROM free WHERE l.name = free.name
RETURNING l.name, l.term

-- name: renew
-- All leases of one owner at once. One that expired but was not taken is still its own: the term says so.
WITH held AS (
    SELECT l.name FROM leases l
    JOIN unnest($2::text[], $3::bigint[]) AS h (name, term) ON h.name = l.name AND h.term = l.term
    WHERE l.owner = $1
    ORDER BY l.name FOR NO KEY UPDATE OF l
)
UPDATE leases l SET expires_at = clock_timestamp() + make_interval(secs => $4)
FROM held WHERE l.name = held.name
RETURNING l.name

-- name: release
-- Owner and term must match, so a late call of an old term cannot end a newer one.
WITH held AS (
    SELECT l.name FROM leases l
    JOIN unnest($2::text[], $3::bigint[]) AS h (name, term) ON h.name = l.name AND h.term = l.term
    WHERE l.owner = $1
    ORDER BY l.name FOR NO KEY UPDATE OF l
)
UPDATE leases l SET owner = NULL, expires_at = '-infinity'
FROM held WHERE l.name = held.name

-- name: fence
-- First statement of every transaction under a term. The share of the key lets renewals pass and makes a claim wait.
SELECT FROM leases WHERE name = $1 AND term = $2 FOR KEY SHARE

-- name: fence_all
-- The same for pages of several leases in one transaction: those whose term stands. Only of these may anything be written.
SELECT l.name FROM leases l
JOIN unnest($1::text[], $2::bigint[]) AS h (name, term) ON h.name = l.name AND h.term = l.term
ORDER BY l.name FOR KEY SHARE OF l

-- name: holders
SELECT name, owner, term, extract(epoch FROM expires_at - clock_timestamp())::double precision AS remaining_s
FROM leases WHERE name = ANY ($1::text[]) ORDER BY name
