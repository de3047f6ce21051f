-- Inspections: one, and lists. Each list walks one index from a key and returns no more rows than were asked for.
--
-- What selects the index stands in the key that is compared and sorted by, and not as an equation beside it: so no other index
-- gives this order, whatever the planner believes of the data. Where the status is left open, the walks of all of them are merged:
-- as many short ones as there are. The second bound is the other end of the range of times.

-- name: get
SELECT inspection_id, inspector_id, template_id, template_version, status, title, answers, note, version, is_deleted,
       created_at, updated_at, submitted_at, decided_at, decided_by
FROM inspections WHERE inspection_id = $1

-- name: inspector_descending
-- Of one inspector, in these statuses, newest first.
SELECT w.* FROM unnest($5::text[]) AS k (status) CROSS JOIN LATERAL (
    SELECT i.inspection_id, i.inspector_id, i.template_id, i.template_version, i.status, i.title, i.version,
           i.is_deleted, i.created_at, i.updated_at, i.submitted_at, i.decided_at, i.decided_by
    FROM inspections i
    WHERE (i.inspector_id, i.status, i.created_at, i.inspection_id) < ($1, k.status, $2, $3)
      AND (i.inspector_id, i.status, i.created_at) >= ($1, k.status, $4)
    ORDER BY i.inspector_id DESC, i.status DESC, i.created_at DESC, i.inspection_id DESC LIMIT $6
) w
ORDER BY w.created_at DESC, w.inspection_id DESC LIMIT $6

-- name: inspector_ascending
-- Of one inspector, in these statuses, oldest first.
SELECT w.* FROM unnest($5::text[]) AS k (status) CROSS JOIN LATERAL (
    SELECT i.inspection_id, i.inspector_id, i.template_id, i.template_version, i.status, i.title, i.version,
           i.is_deleted, i.created_at, i.updated_at, i.submitted_at, i.decided_at, i.decided_by
    FROM inspections i
    WHERE (i.inspector_id, i.status, i.created_at, i.inspection_id) > ($1, k.status, $2, $3)
      AND (i.inspector_id, i.status, i.created_at) < ($1, k.status, $4)
    ORDER BY i.inspector_id, i.status, i.created_at, i.inspection_id LIMIT $6
) w
ORDER BY w.created_at, w.inspection_id LIMIT $6

-- name: template_descending
-- By one template, in these statuses, newest first.
SELECT w.* FROM unnest($5::text[]) AS k (status) CROSS JOIN LATERAL (
    SELECT i.inspection_id, i.inspector_id, i.template_id, i.template_version, i.status, i.title, i.version,
           i.is_deleted, i.created_at, i.updated_at, i.submitted_at, i.decided_at, i.decided_by
    FROM inspections i
    WHERE (i.template_id, i.status, i.created_at, i.inspection_id) < ($1, k.status, $2, $3)
      AND (i.template_id, i.status, i.created_at) >= ($1, k.status, $4)
    ORDER BY i.template_id DESC, i.status DESC, i.created_at DESC, i.inspection_id DESC LIMIT $6
) w
ORDER BY w.created_at DESC, w.inspection_id DESC LIMIT $6

-- name: template_ascending
-- By one template, in these statuses, oldest first.
SELECT w.* FROM unnest($5::text[]) AS k (status) CROSS JOIN LATERAL (
    SELECT i.inspection_id, i.inspector_id, i.template_id, i.template_version, i.status, i.title, i.version,
           i.is_deleted, i.created_at, i.updated_at, i.submitted_at, i.decided_at, i.decided_by
    FROM inspections i
    WHERE (i.template_id, i.status, i.created_at, i.inspection_id) > ($1, k.status, $2, $3)
      AND (i.template_id, i.status, i.created_at) < ($1, k.status, $4)
    ORDER BY i.template_id, i.status, i.created_at, i.inspection_id LIMIT $6
) w
ORDER BY w.created_at, w.inspection_id LIMIT $6

-- name: status_descending
-- In these statuses, deleted or not as each pair says, newest first.
SELECT w.* FROM unnest($1::boolean[], $5::text[]) AS k (is_deleted, status) CROSS JOIN LATERAL (
    SELECT i.inspection_id, i.inspector_id, i.template_id, i.template_version, i.status, i.title, i.version,
           i.is_deleted, i.created_at, i.updated_at, i.submitted_at, i.decided_at, i.decided_by
    FROM inspections i
    WHERE (i.is_deleted, i.status, i.created_at, i.inspection_id) < (k.is_deleted, k.status, $2, $3)
      AND (i.is_deleted, i.status, i.created_at) >= (k.is_deleted, k.status, $4)
    ORDER BY i.is_deleted DESC, i.status DESC, i.created_at DESC, i.inspection_id DESC LIMIT $6
) w
ORDER BY w.created_at DESC, w.inspection_id DESC LIMIT $6

-- name: status_ascending
-- In these statuses, deleted or not as each pair says, oldest first.
SELECT w.* FROM unnest($1::boolean[], $5::text[]) AS k (is_deleted, status) CROSS JOIN LATERAL (
    SELECT i.inspection_id, i.inspector_id, i.template_id, i.template_version, i.status, i.title, i.version,
           i.is_deleted, i.created_at, i.updated_at, i.submitted_at, i.decided_at, i.decided_by
    FROM inspections i
    WHERE (i.is_deleted, i.status, i.created_at, i.inspection_id) > (k.is_deleted, k.status, $2, $3)
      AND (i.is_deleted, i.status, i.created_at) < (k.is_deleted, k.status, $4)
    ORDER BY i.is_deleted, i.status, i.created_at, i.inspection_id LIMIT $6
) w
ORDER BY w.created_at, w.inspection_id LIMIT $6

-- name: created_descending
-- By the time they were created, newest first.
SELECT inspection_id, inspector_id, template_id, template_version, status, title, version,
       is_deleted, created_at, updated_at, submitted_at, decided_at, decided_by
FROM inspections
WHERE (created_at, inspection_id) < ($1, $2) AND created_at >= $3
ORDER BY created_at DESC, inspection_id DESC LIMIT $4

-- name: created_ascending
-- By the time they were created, oldest first.
SELECT inspection_id, inspector_id, template_id, template_version, status, title, version,
       is_deleted, created_at, updated_at, submitted_at, decided_at, decided_by
FROM inspections
WHERE (created_at, inspection_id) > ($1, $2) AND created_at < $3
ORDER BY created_at, inspection_id LIMIT $4

-- name: submitted_descending
-- By the time they were submitted, newest first.
SELECT inspection_id, inspector_id, template_id, template_version, status, title, version,
       is_deleted, created_at, updated_at, submitted_at, decided_at, decided_by
FROM inspections
WHERE (submitted_at, inspection_id) < ($1, $2) AND submitted_at >= $3
ORDER BY submitted_at DESC, inspection_id DESC LIMIT $4

-- name: submitted_ascending
-- By the time they were submitted, oldest first.
SELECT inspection_id, inspector_id, template_id, template_version, status, title, version,
       is_deleted, created_at, updated_at, submitted_at, decided_at, decided_by
FROM inspections
WHERE (submitted_at, inspection_id) > ($1, $2) AND submitted_at < $3
ORDER BY submitted_at, inspection_id LIMIT $4
