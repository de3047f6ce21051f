-- name: reserve
-- The folder of a job's response, stored before anything lies in it. The first reservation stays, whoever made it.
INSERT INTO responses (response_id, device_id, job_id, request_name, store, folder)
SELECT r.response_id, r.device_id, r.job_id, r.request_name, r.store, r.folder
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[])
    AS r (response_id, device_id, job_id, request_name, store, folder)
ORDER BY r.job_id
ON CONFLICT (job_id) DO NOTHING
RETURNING job_id, response_id, store, folder

-- name: reserved
SELECT job_id, response_id, store, folder FROM responses WHERE job_id = ANY ($1::uuid[])

-- name: replace
-- Another store for the response of a job that its worker still holds. The place that is left is remembered: what an attempt wrote
-- there, or writes there late, is no response of somebody else. The job's lock guards both rows; the place is read as it was before
-- this statement, so it must not be locked by it.
WITH held AS (
    SELECT job_id FROM jobs WHERE job_id = $1 AND lease_token = $2 AND current_status = 'running' FOR NO KEY UPDATE
), place AS (
    SELECT r.response_id, r.store, r.folder FROM responses r JOIN held USING (job_id) WHERE r.store <> $3
), remembered AS (
    INSERT INTO left_places (store, folder, response_id) SELECT store, folder, response_id FROM place
    ON CONFLICT (store, folder) DO UPDATE SET left_at = clock_timestamp(), swept_at = NULL
)
UPDATE responses r SET store = $3 FROM held WHERE r.job_id = held.job_id
RETURNING r.job_id

-- name: complete
-- Responses with their outcome and the event that announces it; in the transaction that ends their jobs.
UPDATE responses r SET outcome = c.outcome, reason = c.reason, event_id = c.event_id, answer = c.answer::json,
    completed_at = clock_timestamp()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS c (job_id, outcome, reason, event_id, answer)
WHERE r.job_id = c.job_id

-- name: reopen
-- The response of a job that is queued anew: reserved as before, and not finished any more.
UPDATE responses SET outcome = NULL, reason = NULL, event_id = NULL, answer = NULL, completed_at = NULL WHERE job_id = $1

-- name: add_files
INSERT INTO response_files (file_id, response_id, device_id, store, path, name, size, sha256, content_type)
SELECT f.file_id, r.response_id, r.device_id, r.store, f.path, f.name, f.size, f.sha256, f.content_type
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
    AS f (file_id, job_id, path, name, size, sha256, content_type)
JOIN responses r ON r.job_id = f.job_id
