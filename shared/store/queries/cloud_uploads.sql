-- name: take
-- An upload of this content to this place whose holder is silent, for another to go on with; the youngest, if there are more.
UPDATE cloud_uploads u
SET token = u.token + 1, lease_until = clock_timestamp() + make_interval(secs => $5), changed_at = clock_timestamp()
FROM (SELECT upload_id FROM cloud_uploads
      WHERE store = $1 AND path = $2 AND size = $3 AND sha256 = $4 AND state = 'running'
        AND lease_until < clock_timestamp()
      ORDER BY begun_at DESC LIMIT 1 FOR UPDATE SKIP LOCKED) found
WHERE u.upload_id = found.upload_id
RETURNING u.upload_id, u.token, u.session, extract(epoch FROM u.expires_at)::double precision AS expires_at

-- name: add
INSERT INTO cloud_uploads (upload_id, store, path, size, sha256, lease_until)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))
RETURNING token

-- name: save
-- What is under way at the store, for who holds it.
UPDATE cloud_uploads
SET session = $3, expires_at = to_timestamp($4), restarts = restarts + CASE WHEN $3::text IS NULL THEN 1 ELSE 0 END,
    lease_until = clock_timestamp() + make_interval(secs => $5), changed_at = clock_timestamp()
WHERE upload_id = $1 AND token = $2

-- name: beat
UPDATE cloud_uploads SET lease_until = clock_timestamp() + make_interval(secs => $3)
WHERE upload_id = $1 AND token = $2

-- name: give_back
-- Its holder goes, and it is not ended: the next may go on at once.
UPDATE cloud_uploads SET lease_until = '-infinity', changed_at = clock_timestamp()
WHERE upload_id = $1 AND token = $2 AND state = 'running'

-- name: ended
DELETE FROM cloud_uploads WHERE upload_id = $1 AND token = $2 AND state = 'running'

-- name: quarantine
UPDATE cloud_uploads SET state = 'quarantined', session = NULL, detail = $3, changed_at = clock_timestamp()
WHERE upload_id = $1 AND token = $2

-- name: left
-- Uploads that nobody has gone on with for long, taken to be given up at their stores; one process at a time takes each.
UPDATE cloud_uploads u
SET token = u.token + 1, lease_until = clock_timestamp() + make_interval(secs => $3)
FROM (SELECT upload_id FROM cloud_uploads
      WHERE state = 'running' AND store = ANY ($1::text[]) AND lease_until < clock_timestamp()
        AND changed_at < clock_timestamp() - make_interval(secs => $2)
      ORDER BY lease_until LIMIT $4 FOR UPDATE SKIP LOCKED) found
WHERE u.upload_id = found.upload_id
RETURNING u.upload_id, u.token, u.store, u.path, u.size, u.session,
          extract(epoch FROM u.expires_at)::double precision AS expires_at

-- name: quarantined
-- Of one store, for a person to look at, the newest first.
SELECT upload_id, store, path, size, sha256, detail, changed_at FROM cloud_uploads
WHERE state = 'quarantined' AND store = $1 ORDER BY changed_at DESC LIMIT $2
