-- name: lock_principal
-- One reservation of a principal at a time, so that the bound on its pending photos holds. Taken before any lock of a row.
SELECT pg_advisory_xact_lock(hashtextextended('photos ' || $1::text, 0))

-- name: renew
-- A pending photo of this principal that is asked for again: its time begins anew.
UPDATE photos SET expires_at = clock_timestamp() + make_interval(secs => $3)
WHERE photo_id = $1 AND principal = $2 AND status = 'pending'

-- name: reserve
-- A new photo, unless the principal has as many pending ones as it may. A photo that is there is left alone.
INSERT INTO photos (photo_id, principal, inspection_id, store, object_key, name, content_type, size, sha256, md5,
                    status, expires_at)
SELECT $1::uuid, $2::text, $3::uuid, $4::text, $5::text, $6::text, $7::text, $8::bigint, $9::text, $10::text,
       'pending', clock_timestamp() + make_interval(secs => $11)
WHERE $12::bigint > (
    SELECT count(*) FROM (SELECT FROM photos WHERE principal = $2 AND status = 'pending' LIMIT $12) p)
ON CONFLICT (photo_id) DO NOTHING
RETURNING photo_id

-- name: by_id
SELECT p.photo_id, p.principal, p.inspection_id, p.store, p.object_key, p.name, p.content_type, p.size, p.sha256, p.md5,
       p.status, p.created_at, p.expires_at, p.confirmed_at, i.inspector_id
FROM photos p
LEFT JOIN inspections i ON i.inspection_id = p.inspection_id
WHERE p.photo_id = $1

-- name: first_expiry
-- In how many seconds the next pending photo of the principal expires.
SELECT extract(epoch FROM min(expires_at) - clock_timestamp())::double precision
FROM photos WHERE principal = $1 AND status = 'pending'

-- name: inspector
-- Whose inspection it is.
SELECT inspector_id FROM inspections WHERE inspection_id = $1 AND NOT is_deleted

-- name: adopt
-- The store was asked and holds what was announced under this key. By key, since the id may have been given again meanwhile.
UPDATE photos SET status = 'stored', confirmed_at = clock_timestamp()
WHERE photo_id = $1 AND object_key = $2 AND status = 'pending'

-- name: page
-- Stored photos of an inspection, newest first, after a given key.
SELECT photo_id, principal, inspection_id, store, object_key, name, content_type, size, sha256, md5,
       status, created_at, expires_at, confirmed_at, NULL
FROM photos
WHERE inspection_id = $1 AND status = 'stored'
  AND ($2::timestamptz IS NULL OR (created_at, photo_id) < ($2, $3::uuid))
ORDER BY created_at DESC, photo_id DESC
LIMIT $4

-- name: expire
-- Pending photos whose time is over, one batch. From here on no confirmation finds them.
UPDATE photos SET status = 'expired', expires_at = clock_timestamp()
WHERE photo_id = ANY (ARRAY(
    SELECT photo_id FROM photos WHERE status = 'pending' AND expires_at < clock_timestamp()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
  AND status = 'pending'
RETURNING photo_id

-- name: expired
-- Expired photos whose store is to be tidied now.
SELECT photo_id, principal, inspection_id, store, object_key, name, content_type, size, sha256, md5,
       status, created_at, expires_at, confirmed_at, NULL
FROM photos WHERE status = 'expired' AND expires_at <= clock_timestamp()
ORDER BY expires_at LIMIT $1

-- name: forget
-- Nothing of these is left at their stores. By key, since the id may have been given again.
DELETE FROM photos p USING unnest($1::text[], $2::text[]) AS g (store, object_key)
WHERE p.store = g.store AND p.object_key = g.object_key AND p.status = 'expired'
RETURNING p.photo_id

-- name: put_off
-- Their stores could not do it: later again, so that the others are not held up.
UPDATE photos SET expires_at = clock_timestamp() + make_interval(secs => $2)
WHERE photo_id = ANY ($1::uuid[]) AND status = 'expired'
