-- name: due
-- Places that responses left an hour ago or longer, of responses that came to their end elsewhere: nobody writes there any more.
SELECT l.store, l.folder FROM left_places l LEFT JOIN responses r ON r.response_id = l.response_id
WHERE l.swept_at IS NULL AND l.left_at < clock_timestamp() - make_interval(secs => $1)
  AND (r.response_id IS NULL
       OR (r.completed_at < clock_timestamp() - make_interval(secs => $1) AND (r.store, r.folder) <> (l.store, l.folder)))
ORDER BY l.left_at LIMIT $2

-- name: swept
UPDATE left_places SET swept_at = clock_timestamp() WHERE store = $1 AND folder = $2
RETURNING store
