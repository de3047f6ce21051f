-- name: put_folders
-- Folders as the provider tells them. One that moved is left to be settled, a new one when $7 is not 0. One that was gone and is
-- told again is as good as new.
INSERT INTO cloud_folders AS f (feed_id, item_id, parent_id, name, is_root, unsettled, generation)
SELECT $1, i.item_id, i.parent_id, i.name, i.is_root, CASE WHEN i.is_root THEN 0 ELSE $7 END, $6
FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[]) AS i (item_id, parent_id, name, is_root)
ORDER BY i.item_id
ON CONFLICT (feed_id, item_id) DO UPDATE
SET parent_id = EXCLUDED.parent_id, name = EXCLUDED.name, is_root = EXCLUDED.is_root,
    generation = GREATEST(f.generation, EXCLUDED.generation),
    unsettled = CASE
        WHEN f.unsettled = 3 OR (f.parent_id, f.name, f.is_root) IS DISTINCT FROM
                                (EXCLUDED.parent_id, EXCLUDED.name, EXCLUDED.is_root)
        THEN 2 ELSE f.unsettled END
WHERE f.unsettled = 3 OR f.generation < EXCLUDED.generation OR
      (f.parent_id, f.name, f.is_root) IS DISTINCT FROM (EXCLUDED.parent_id, EXCLUDED.name, EXCLUDED.is_root)
RETURNING f.unsettled > 0 AS unsettled

-- name: drop_folders
-- Gone with all below them, which is seen to when the provider has told everything: what was moved out may be told later. One that
-- is only known by what was told to lie in it gets a row for that.
WITH only_named AS (
    INSERT INTO cloud_folders (feed_id, item_id, name, unsettled)
    SELECT $1, u.parent_id, '', 3 FROM cloud_unplaced u WHERE u.feed_id = $1 AND u.parent_id = ANY ($2::text[])
    UNION
    SELECT $1, c.parent_id, '', 3 FROM cloud_folders c WHERE c.feed_id = $1 AND c.parent_id = ANY ($2::text[])
    ON CONFLICT DO NOTHING RETURNING item_id
), gone AS (
    UPDATE cloud_folders SET unsettled = 3 WHERE feed_id = $1 AND item_id = ANY ($2::text[]) AND NOT is_root
    RETURNING item_id
)
SELECT item_id FROM only_named UNION ALL SELECT item_id FROM gone

-- name: placed
-- Where folders are: the path below the root; or outside, when the way up ends elsewhere; or not known yet.
WITH RECURSIVE up AS (
    SELECT a.item_id AS asked, f.item_id IS NOT NULL AS found, f.unsettled = 3 AS gone, f.parent_id, COALESCE(f.is_root, false) AS is_root,
           CASE WHEN f.is_root THEN '' ELSE f.name END AS path, 1 AS depth
    FROM unnest($2::text[]) AS a (item_id)
    LEFT JOIN cloud_folders f ON f.feed_id = $1 AND f.item_id = a.item_id
    UNION ALL
    SELECT u.asked, f.item_id IS NOT NULL, f.unsettled = 3, f.parent_id, COALESCE(f.is_root, false),
           CASE WHEN f.is_root THEN u.path ELSE f.name || '/' || u.path END, u.depth + 1
    FROM up u LEFT JOIN cloud_folders f ON f.feed_id = $1 AND f.item_id = u.parent_id
    WHERE u.found AND NOT u.is_root AND u.parent_id IS NOT NULL AND u.depth < 64
)
SELECT DISTINCT ON (asked) asked, CASE WHEN is_root THEN path END AS path, found AND NOT gone AND parent_id IS NULL AND NOT is_root AS outside
FROM up ORDER BY asked, depth DESC

-- name: facts
-- All that decides what becomes of what was told. A job's folder is reserved before anything lies in it, so a reservation that
-- matters is always visible here.
SELECT i.content_version, i.state, i.path, i.area, i.device_id, i.size, i.sha256, i.parent_id, COALESCE(i.leaving > 0, false) AS leaving,
       EXISTS (SELECT FROM devices d WHERE d.device_id = a.device_id) AS device_known,
       a.folder IS NOT NULL AND (
           EXISTS (SELECT FROM responses r WHERE r.store = $5 AND r.folder = a.folder AND r.job_id IS NOT NULL)
           OR EXISTS (SELECT FROM left_places l WHERE l.store = $5 AND l.folder = a.folder)
       ) AS reserved
FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS a (item_id, device_id, folder, n)
LEFT JOIN items i ON i.feed_id = $1 AND i.item_id = a.item_id
ORDER BY a.n

-- name: reserved
SELECT EXISTS (SELECT FROM responses r WHERE r.store = $1 AND r.folder = $2 AND r.job_id IS NOT NULL)
    OR EXISTS (SELECT FROM left_places l WHERE l.store = $1 AND l.folder = $2) AS reserved

-- name: put
-- A row that is written for another reason than that the provider told of it has the generation 0, and keeps the one it had.
INSERT INTO items (feed_id, item_id, path, device_id, area, state, content_version, size, parent_id, sha256, retry_at, generation)
SELECT $1, i.item_id, i.path, i.device_id, i.area, i.state, i.content_version, i.size, i.parent_id, i.sha256,
       clock_timestamp() + make_interval(secs => i.retry_s), i.generation
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[], $10::text[],
            $11::bigint[], $12::double precision[])
    AS i (item_id, path, device_id, area, state, content_version, size, parent_id, sha256, generation, retry_s)
ORDER BY i.item_id
ON CONFLICT (feed_id, item_id) DO UPDATE
SET path = EXCLUDED.path, device_id = EXCLUDED.device_id, area = EXCLUDED.area, state = EXCLUDED.state,
    content_version = EXCLUDED.content_version, size = EXCLUDED.size, parent_id = EXCLUDED.parent_id, sha256 = EXCLUDED.sha256,
    retry_at = EXCLUDED.retry_at, leaving = 0,
    generation = GREATEST(items.generation, EXCLUDED.generation), seen_at = clock_timestamp()

-- name: mark
-- Seen by the run over everything, and as it was.
UPDATE items SET generation = $3 WHERE feed_id = $1 AND item_id = ANY ($2::text[]) AND generation < $3

-- name: remove
-- Gone, or not ours any more.
WITH placed AS (
    DELETE FROM items WHERE feed_id = $1 AND item_id = ANY ($2::text[]) RETURNING item_id
), unplaced AS (
    DELETE FROM cloud_unplaced WHERE feed_id = $1 AND item_id = ANY ($2::text[])
)
SELECT item_id FROM placed

-- name: remove_between
-- Where the provider tells ids in the order of their bytes: what is known in ($2, $3], to the end when $3 is null, and was not told.
-- What is left by $5 is gone after the next run.
DELETE FROM items WHERE feed_id = $1 AND item_id IN (
    SELECT i.item_id FROM items i
    WHERE i.feed_id = $1 AND i.item_id > $2 AND ($3::text IS NULL OR i.item_id <= $3)
      AND NOT EXISTS (SELECT FROM unnest($4::text[]) AS t (item_id) WHERE t.item_id = i.item_id)
    ORDER BY i.item_id LIMIT $5
)
RETURNING item_id

-- name: put_unplaced
-- What the ledger has of them stays as it is.
WITH stays AS (
    UPDATE items SET leaving = 0, generation = GREATEST(generation, $9) WHERE feed_id = $1 AND item_id = ANY ($2::text[])
)
INSERT INTO cloud_unplaced (feed_id, item_id, parent_id, name, version, size, sha256, stand_in, generation)
SELECT $1, i.item_id, i.parent_id, i.name, i.version, i.size, i.sha256, i.stand_in, $9
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[])
    AS i (item_id, parent_id, name, version, size, sha256, stand_in)
ORDER BY i.item_id
ON CONFLICT (feed_id, item_id) DO UPDATE
SET parent_id = EXCLUDED.parent_id, name = EXCLUDED.name, version = EXCLUDED.version, size = EXCLUDED.size,
    sha256 = EXCLUDED.sha256, stand_in = EXCLUDED.stand_in, generation = EXCLUDED.generation

-- name: unplaced
SELECT item_id, parent_id, name, version, size, sha256, stand_in, generation FROM cloud_unplaced
WHERE feed_id = $1 AND item_id > $2 ORDER BY item_id LIMIT $3

-- name: drop_unplaced
DELETE FROM cloud_unplaced WHERE feed_id = $1 AND item_id = ANY ($2::text[])

-- name: unsettled
-- One folder that is left to be settled, gone ones first.
SELECT item_id, unsettled FROM cloud_folders WHERE feed_id = $1 AND unsettled > 1
ORDER BY unsettled DESC, item_id LIMIT 1

-- name: parked
-- Folders that moved to where nothing is known yet.
SELECT item_id FROM cloud_folders WHERE feed_id = $1 AND unsettled = 1 AND item_id > $2 ORDER BY item_id LIMIT $3

-- name: park
UPDATE cloud_folders SET unsettled = 1 WHERE feed_id = $1 AND item_id = $2 AND unsettled = 2

-- name: leave_below
-- Of those that were told somewhere else, unknown yet, the ledger's folder says nothing; the one they were told in does.
WITH RECURSIVE down AS (
    SELECT item_id, 1 AS depth FROM cloud_folders WHERE feed_id = $1 AND item_id = $2
    UNION ALL
    SELECT c.item_id, d.depth + 1 FROM down d JOIN cloud_folders c ON c.feed_id = $1 AND c.parent_id = d.item_id
    WHERE d.depth < 64 AND NOT c.is_root
), unplaced AS (
    DELETE FROM cloud_unplaced WHERE feed_id = $1 AND parent_id IN (SELECT item_id FROM down) RETURNING item_id
), leaving AS (
    (SELECT i.item_id FROM items i
     WHERE i.feed_id = $1 AND i.leaving = 0 AND i.parent_id IN (SELECT item_id FROM down)
       AND NOT EXISTS (SELECT FROM cloud_unplaced u WHERE u.feed_id = $1 AND u.item_id = i.item_id)
     LIMIT $3)
    UNION
    SELECT item_id FROM unplaced
)
UPDATE items i SET leaving = 1 FROM leaving l WHERE i.feed_id = $1 AND i.item_id = l.item_id
RETURNING i.item_id

-- name: leave
UPDATE items SET leaving = 1 WHERE feed_id = $1 AND item_id = ANY ($2::text[])

-- name: told_again
-- The provider has told everything since they were said to leave.
UPDATE items SET leaving = 2 WHERE feed_id = $1 AND leaving = 1 RETURNING item_id

-- name: left
-- And not a word of them: they have left.
DELETE FROM items WHERE feed_id = $1 AND leaving = 2 RETURNING item_id

-- name: forget_folder
-- A folder that is gone, when no file is left there. Those below it may have been moved out of it, of which the provider tells by
-- the one that moved and no other: so they stay, in no known place, until they are told or a run over everything does not see them.
DELETE FROM cloud_folders WHERE feed_id = $1 AND item_id = $2

-- name: misplaced
-- Files below a folder whose recorded path is not where they are now. $3 is the folder's path, null when it is not below the root.
WITH RECURSIVE down AS (
    SELECT item_id, $3::text AS path, 1 AS depth FROM cloud_folders WHERE feed_id = $1 AND item_id = $2
    UNION ALL
    SELECT c.item_id, d.path || '/' || c.name, d.depth + 1
    FROM down d JOIN cloud_folders c ON c.feed_id = $1 AND c.parent_id = d.item_id
    WHERE d.depth < 64 AND NOT c.is_root
), now AS (
    SELECT i.item_id, i.path, d.path || '/' || regexp_replace(i.path, '^.*/', '') AS new_path
    FROM down d JOIN items i ON i.feed_id = $1 AND i.parent_id = d.item_id
)
SELECT n.item_id, n.new_path, i.parent_id, i.content_version, i.size, i.sha256, i.area, i.device_id
FROM now n JOIN items i ON i.feed_id = $1 AND i.item_id = n.item_id
WHERE n.new_path IS DISTINCT FROM n.path AND i.leaving = 0
  AND NOT EXISTS (SELECT FROM cloud_unplaced u WHERE u.feed_id = $1 AND u.item_id = n.item_id)
ORDER BY n.item_id LIMIT $4

-- name: folder_paths
-- The folders in and below one by their path, $3 being its own.
WITH RECURSIVE down AS (
    SELECT item_id, $3::text AS path, 1 AS depth FROM cloud_folders WHERE feed_id = $1 AND item_id = $2
    UNION ALL
    SELECT c.item_id, d.path || '/' || c.name, d.depth + 1
    FROM down d JOIN cloud_folders c ON c.feed_id = $1 AND c.parent_id = d.item_id
    WHERE d.depth < 64 AND NOT c.is_root
)
SELECT path, item_id FROM down

-- name: settled
UPDATE cloud_folders SET unsettled = 0 WHERE feed_id = $1 AND item_id = $2 AND unsettled < 3

-- name: sweep
-- Forget what the run over everything did not see, some thousands of rows at a time: those above $2. Returns how far it came and how
-- many went; null when there was nothing more.
WITH looked AS (
    SELECT item_id, generation FROM items WHERE feed_id = $1 AND item_id > $2 ORDER BY item_id LIMIT $4
), gone AS (
    DELETE FROM items i USING looked l WHERE i.feed_id = $1 AND i.item_id = l.item_id AND l.generation < $3
    RETURNING i.item_id
)
SELECT (SELECT max(item_id) FROM looked) AS reach, (SELECT count(*) FROM gone) AS removed

-- name: sweep_folders
-- Folders that the run did not see, and files that it did not see again before their folder.
WITH unplaced AS (
    DELETE FROM cloud_unplaced WHERE feed_id = $1 AND generation < $2
)
DELETE FROM cloud_folders WHERE feed_id = $1 AND generation < $2

-- name: arrivals
-- Files that wait: for their device, which exists now, or for their content to be read, and the time for that has come.
SELECT i.item_id, i.path, i.parent_id, i.content_version, i.size, i.sha256, i.area, i.device_id
FROM items i JOIN devices d ON d.device_id = i.device_id
WHERE i.state = 'waiting' AND i.leaving = 0 AND i.feed_id = $1 AND (i.retry_at IS NULL OR i.retry_at <= clock_timestamp())
ORDER BY i.item_id LIMIT $2

-- name: put_off
UPDATE items SET retry_at = clock_timestamp() + make_interval(secs => $3)
WHERE feed_id = $1 AND item_id = ANY ($2::text[]) AND state = 'waiting'

-- name: feeds_with_arrivals
SELECT DISTINCT i.feed_id FROM items i JOIN devices d ON d.device_id = i.device_id
WHERE i.state = 'waiting' AND i.leaving = 0 AND i.feed_id = ANY ($1::text[]) AND (i.retry_at IS NULL OR i.retry_at <= clock_timestamp())
