-- name: reserve
-- The folder of a job's response, stored before anything lies in it. The first reservation stays, whoever made it.
INSERT INTO responses (response_id, device_id, job_id, request_name, store, folder)
SELECT r.response_id, r.device_id, r.job_id, r.request_name, r.store, r.folder
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[])
    AS r (response_id, device_id, job_id, request_name, store, folder)
ORDER BY r.job_id
ON CONFLICT (job_id) DO NOTHING

-- name: reserved
SELECT job_id, response_id, folder FROM responses WHERE job_id = ANY ($1::uuid[])

-- name: complete
-- Responses with their outcome and the event that announces it; in the transaction that ends their jobs.
UPDATE responses r SET outcome = c.outcome, reason = c.reason, event_id = c.event_id, completed_at = clock_timestamp()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS c (job_id, outcome, reason, event_id)
WHERE r.job_id = c.job_id

-- name: reopen
-- The response of a job that is queued anew: reserved as before, and not finished any more.
UPDATE responses SET outcome = NULL, reason = NULL, event_id = NULL, completed_at = NULL WHERE job_id = $1

-- name: add_files
INSERT INTO response_files (file_id, response_id, device_id, store, path, name, size, sha256, content_type)
SELECT f.file_id, r.response_id, r.device_id, r.store, f.path, f.name, f.size, f.sha256, f.content_type
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
    AS f (file_id, job_id, path, name, size, sha256, content_type)
JOIN responses r ON r.job_id = f.job_id
