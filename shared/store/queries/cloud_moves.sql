-- name: find
SELECT from_version, size, sha256, landed, state FROM cloud_moves WHERE move_key = $1

-- name: begin
-- A move that is wanted now. One of the same places that is further on, of the same version, stays as it is.
INSERT INTO cloud_moves (move_key, from_store, from_path, to_store, to_path, from_version, size, sha256, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'begun')
ON CONFLICT (move_key) DO UPDATE
SET from_version = EXCLUDED.from_version, size = EXCLUDED.size, sha256 = EXCLUDED.sha256, landed = NULL, state = 'begun',
    begun_at = clock_timestamp(), changed_at = clock_timestamp()
WHERE cloud_moves.state = 'ended' OR cloud_moves.from_version <> EXCLUDED.from_version
RETURNING move_key

-- name: note
-- How far it came; only on, and only of this version.
UPDATE cloud_moves SET state = $3, landed = $4, sha256 = coalesce($5, sha256), changed_at = clock_timestamp()
WHERE move_key = $1 AND from_version = $2 AND state <> 'ended'

-- name: forget
-- It came to nothing, or the other way round: there is nothing that a repetition would have to know.
DELETE FROM cloud_moves WHERE move_key = $1 AND from_version = $2 AND state = 'begun'

-- name: prune
-- Ended long ago, in small batches.
DELETE FROM cloud_moves c USING (
    SELECT move_key FROM cloud_moves
    WHERE state = 'ended' AND changed_at < clock_timestamp() - make_interval(secs => $1)
    ORDER BY changed_at LIMIT $2 FOR UPDATE SKIP LOCKED) old
WHERE c.move_key = old.move_key
RETURNING c.move_key
