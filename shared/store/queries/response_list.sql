-- name: page
-- Newest first, after a given key; along the index on (device_id, completed_at, response_id), at any depth.
SELECT r.response_id, r.job_id, r.request_name, r.outcome, r.reason, r.event_id, r.completed_at, f.files, r.answer
FROM (
    SELECT * FROM responses
    WHERE device_id = $1 AND completed_at IS NOT NULL
      AND ($2::timestamptz IS NULL OR (completed_at, response_id) < ($2, $3::uuid))
    ORDER BY completed_at DESC, response_id DESC
    LIMIT $4
) r
CROSS JOIN LATERAL (
    SELECT COALESCE(json_agg(json_build_object(
        'file_id', f.file_id, 'name', f.name, 'size', f.size, 'sha256', f.sha256,
        'content_type', f.content_type, 'url', '/api/v1/files/' || f.file_id
    ) ORDER BY f.path), '[]'::json)::text AS files
    FROM response_files f WHERE f.response_id = r.response_id
) f
ORDER BY r.completed_at DESC, r.response_id DESC

-- name: file
SELECT f.file_id, f.device_id, f.store, f.path, f.name, f.size, f.sha256, f.content_type, f.object_id
FROM response_files f
JOIN responses r ON r.response_id = f.response_id AND r.completed_at IS NOT NULL
WHERE f.file_id = $1
