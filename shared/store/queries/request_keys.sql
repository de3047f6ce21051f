-- name: claim
-- The key is ours if nobody has used it; then it counts for the principal's day (UTC).
WITH claimed AS (
    INSERT INTO request_keys (principal, key, fingerprint, locked_until)
    VALUES ($1, $2, $3, clock_timestamp() + $4::interval)
    ON CONFLICT DO NOTHING
    RETURNING locked_until, created_at
), counted AS (
    INSERT INTO operation_days AS d (principal, day, used)
    SELECT $1, (clock_timestamp() AT TIME ZONE 'UTC')::date, 1 FROM claimed
    ON CONFLICT (principal, day) DO UPDATE SET used = d.used + 1
    RETURNING used
)
SELECT claimed.locked_until, claimed.created_at, counted.used, clock_timestamp() AS now FROM claimed, counted

-- name: get
-- What stands under a key: an answer; or nobody's, because its holder's time is over, or its own.
SELECT fingerprint, status, headers, body, locked_until < clock_timestamp() AS is_left,
       created_at < clock_timestamp() - $3::interval AS is_old, created_at
FROM request_keys WHERE principal = $1 AND key = $2

-- name: take_over
-- A key whose holder has gone without an answer keeps its age: what is derived from it stays the same. One that is old begins anew.
UPDATE request_keys SET fingerprint = $3, locked_until = clock_timestamp() + $4::interval, status = NULL, headers = NULL, body = NULL,
       created_at = CASE WHEN created_at < clock_timestamp() - $5::interval THEN clock_timestamp() ELSE created_at END
WHERE principal = $1 AND key = $2
  AND (created_at < clock_timestamp() - $5::interval
       OR status IS NULL AND locked_until < clock_timestamp() AND fingerprint = $3)
RETURNING locked_until, created_at

-- name: answer
-- Only while the claim is still its holder's.
UPDATE request_keys SET status = $4, headers = $5, body = $6, locked_until = NULL
WHERE principal = $1 AND key = $2 AND locked_until = $3
RETURNING key

-- name: give_up
-- The key is free again, and does not count for the day of its claim.
WITH gone AS (
    DELETE FROM request_keys WHERE principal = $1 AND key = $2 AND locked_until = $3
    RETURNING principal, (created_at AT TIME ZONE 'UTC')::date AS day
)
UPDATE operation_days d SET used = d.used - 1 FROM gone WHERE d.principal = gone.principal AND d.day = gone.day AND d.used > 0

-- name: prune
-- One batch of keys whose time is over; how many there were. now() and no other clock: an index is not used for one that moves.
WITH old AS (
    DELETE FROM request_keys WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM request_keys WHERE created_at < now() - $1::interval LIMIT $2))
    RETURNING 1
)
SELECT count(*) FROM old
