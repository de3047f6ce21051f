-- name: lock_series
-- One at a time counts on in a series. Taken before any lock of a row, for the length of one short transaction.
SELECT pg_advisory_xact_lock(hashtextextended('cloud_names', hashtextextended($1, hashtextextended($2, hashtextextended($3, 0)))))

-- name: choices
-- What decides which version a content gets: the one it has, the lowest whose claim came to nothing, the newest. In a
-- statement after the lock, since its snapshot has to be younger.
SELECT (SELECT min(version) FROM cloud_names
        WHERE store = $1 AND folder = $2 AND series = $3 AND sha256 = $4 AND size = $5) AS same,
       (SELECT min(version) FROM cloud_names
        WHERE store = $1 AND folder = $2 AND series = $3 AND state = 'claimed'
          AND claimed_until < clock_timestamp()) AS lapsed,
       coalesce((SELECT max(version) FROM cloud_names WHERE store = $1 AND folder = $2 AND series = $3), 0) AS newest

-- name: join
-- The version that has this content already, stored or on its way: whoever puts it, it is the same object.
UPDATE cloud_names SET claimed_until = greatest(claimed_until, clock_timestamp() + make_interval(secs => $5))
WHERE store = $1 AND folder = $2 AND series = $3 AND version = $4
RETURNING name, version, object_id, state

-- name: take_over
-- A claim that came to nothing, for another content. Its object id stays the name's: who made it late is found by it.
UPDATE cloud_names SET sha256 = $5, size = $6, claimed_at = clock_timestamp(),
    claimed_until = clock_timestamp() + make_interval(secs => $7)
WHERE store = $1 AND folder = $2 AND series = $3 AND version = $4
RETURNING name, version, object_id, state

-- name: add
-- A new version. No row: its name belongs to another series.
INSERT INTO cloud_names (store, folder, name_key, name, series, version, sha256, size, state, claimed_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'claimed', clock_timestamp() + make_interval(secs => $9))
ON CONFLICT (store, folder, name_key) DO NOTHING
RETURNING name, version, object_id, state

-- name: renew
UPDATE cloud_names SET claimed_until = clock_timestamp() + make_interval(secs => $5)
WHERE store = $1 AND folder = $2 AND name_key = $3 AND sha256 = $4

-- name: found
-- What lies under the name in the store: put there by whoever claimed it, or by somebody else.
UPDATE cloud_names SET state = 'stored', size = $4, sha256 = $5
WHERE store = $1 AND folder = $2 AND name_key = $3

-- name: claim_alone
-- A name for itself, with an object id of its own. The row of whoever came first stays.
INSERT INTO cloud_names (store, folder, name_key, name, object_id, state, claimed_until)
VALUES ($1, $2, $3, $4, $5, 'claimed', clock_timestamp() + make_interval(secs => $6))
ON CONFLICT (store, folder, name_key) DO NOTHING

-- name: holder
SELECT name, version, object_id, state, size, sha256, state = 'claimed' AND claimed_until < clock_timestamp() AS lapsed
FROM cloud_names
WHERE store = $1 AND folder = $2 AND name_key = $3

-- name: replace
-- The object of a name that kept another's row: that one is elsewhere by now, or never came to be.
UPDATE cloud_names SET object_id = $5, name = $6, state = 'claimed', size = NULL, sha256 = NULL,
    claimed_at = clock_timestamp(), claimed_until = clock_timestamp() + make_interval(secs => $7)
WHERE store = $1 AND folder = $2 AND name_key = $3 AND object_id = $4
RETURNING object_id

-- name: settle
-- The object lies under its name. No row: the name went to another meanwhile.
UPDATE cloud_names SET state = 'stored' WHERE store = $1 AND folder = $2 AND name_key = $3 AND object_id = $4
RETURNING object_id

-- name: release
-- The object of the name is gone. With an object id, only while the name is still that object's.
DELETE FROM cloud_names
WHERE store = $1 AND folder = $2 AND name_key = $3 AND ($4::text IS NULL OR object_id = $4)

-- name: forget
-- Claims that came to nothing, long ago, in small batches; only the last of a series, so that its numbers stay in a row.
DELETE FROM cloud_names c USING (
    SELECT store, folder, name_key FROM cloud_names n
    WHERE state = 'claimed' AND claimed_until < clock_timestamp() - make_interval(secs => $1) AND object_id IS NULL
      AND NOT EXISTS (SELECT FROM cloud_names later WHERE later.store = n.store AND later.folder = n.folder
                      AND later.series = n.series AND later.version > n.version)
    ORDER BY claimed_until LIMIT $2 FOR UPDATE SKIP LOCKED) old
WHERE c.store = old.store AND c.folder = old.folder AND c.name_key = old.name_key
RETURNING c.name
