-- name: revoke_device
-- Tokens of the device issued before $2, or until now, are revoked; that never goes back.
UPDATE devices SET tokens_valid_from = GREATEST(tokens_valid_from, LEAST(clock_timestamp(), $2::timestamptz))
WHERE device_id = $1
RETURNING tokens_valid_from

-- name: revoke_token
-- Said twice it stays as it was said first, but lasts as long as the longer of the two. It lasts a year and a little, which
-- is longer than any token that is made here, or until $4 if that is later: a token that outlives it would be good again.
INSERT INTO revoked_tokens (token_id, subject, reason, expires_at)
VALUES ($1, $2, $3, GREATEST($4::timestamptz, clock_timestamp() + interval '367 days'))
ON CONFLICT (subject, token_id) DO UPDATE SET expires_at = GREATEST(revoked_tokens.expires_at, EXCLUDED.expires_at)
RETURNING token_id, subject, reason, revoked_at, expires_at, xmax = 0 AS made

-- name: revoked
-- Which of these credentials are revoked, by their number.
SELECT k.number
FROM unnest($1::text[], $2::text[], $3::double precision[], $4::text[]) WITH ORDINALITY
    AS k (subject, device_id, issued_at, token_id, number)
LEFT JOIN devices d ON d.device_id = k.device_id
WHERE d.tokens_valid_from > COALESCE(to_timestamp(k.issued_at), '-infinity')
    OR EXISTS (SELECT FROM revoked_tokens r WHERE r.subject = k.subject AND r.token_id = k.token_id)

-- name: page
-- What is revoked, newest first, devices and single tokens together; of one subject if $3 names it.
(SELECT token_id, subject, reason, revoked_at, expires_at, token_id AS key FROM revoked_tokens
 WHERE (revoked_at, token_id) < (COALESCE($1::timestamptz, 'infinity'), $2::text) AND ($3::text IS NULL OR subject = $3)
 ORDER BY revoked_at DESC, token_id DESC LIMIT $4)
UNION ALL
(SELECT NULL, device_id, NULL, tokens_valid_from, NULL, device_id FROM devices
 WHERE tokens_valid_from IS NOT NULL AND (tokens_valid_from, device_id) < (COALESCE($1::timestamptz, 'infinity'), $2::text)
     AND ($3::text IS NULL OR device_id = $3)
 ORDER BY tokens_valid_from DESC, device_id DESC LIMIT $4)
ORDER BY revoked_at DESC, key DESC LIMIT $4

-- name: prune
-- One batch of revocations of tokens that are over anyway; how many there were.
WITH old AS (
    DELETE FROM revoked_tokens WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM revoked_tokens WHERE expires_at < now() - interval '5 minutes' LIMIT $1))
    RETURNING 1
)
SELECT count(*) FROM old
