-- name: claim
-- Keys are claimed before anything is looked at, in order. A rival's claim is waited for; what it committed is skipped. What was
-- claimed is counted into the principal's day (UTC), whose row is locked from here on. In this transaction nobody waits for a
-- lock for longer than $7: the sort below reads all rows, and with them the setting, before the first is inserted.
WITH claimed AS (
    INSERT INTO sync_operations (idempotency_key, principal, user_id, operation_type, entity_id, body_hash, status)
    SELECT i.idempotency_key, $1, $2, i.operation_type, i.entity_id, i.body_hash, 'claimed'
    FROM (SELECT set_config('lock_timeout', $7, true)) AS bound,
         unnest($3::text[], $4::text[], $5::uuid[], $6::bytea[]) AS i (idempotency_key, operation_type, entity_id, body_hash)
    ORDER BY i.idempotency_key COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING idempotency_key
), counted AS (
    INSERT INTO operation_days AS d (principal, day, used)
    SELECT $1, (clock_timestamp() AT TIME ZONE 'UTC')::date, count(*) FROM claimed HAVING count(*) > 0
    ON CONFLICT (principal, day) DO UPDATE SET used = d.used + EXCLUDED.used
    RETURNING d.day, d.used
)
SELECT claimed.idempotency_key, counted.day, counted.used, clock_timestamp() AS now FROM claimed, counted

-- name: known
-- What stands under the keys that could not be claimed; in a statement of its own, so that a rival's commit is seen.
SELECT idempotency_key, status, body_hash, result
FROM sync_operations WHERE principal = $1 AND idempotency_key = ANY ($2::text[])

-- name: lock_templates
SELECT template_id, version FROM templates WHERE template_id = ANY ($1::uuid[]) ORDER BY template_id FOR KEY SHARE

-- name: lock_inspections
SELECT inspection_id, inspector_id, template_id, template_version, status, title, answers, note, version, is_deleted,
       created_at, updated_at, submitted_at, decided_at, decided_by
FROM inspections WHERE inspection_id = ANY ($1::uuid[]) ORDER BY inspection_id FOR NO KEY UPDATE

-- name: insert_inspections
-- One that a rival has made meanwhile is not returned.
INSERT INTO inspections (inspection_id, inspector_id, template_id, template_version, status, title, answers, note,
                         version, is_deleted, created_at, updated_at, submitted_at, decided_at, decided_by)
SELECT i.* FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[],
                       $9::integer[], $10::boolean[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[],
                       $14::timestamptz[], $15::text[]) AS i (inspection_id)
ORDER BY i.inspection_id
ON CONFLICT DO NOTHING
RETURNING inspection_id

-- name: update_inspections
-- All of them are locked.
UPDATE inspections i
SET status = n.status, title = n.title, answers = n.answers, note = n.note, version = n.version, is_deleted = n.is_deleted,
    updated_at = n.updated_at, submitted_at = n.submitted_at, decided_at = n.decided_at, decided_by = n.decided_by
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::boolean[], $8::timestamptz[],
            $9::timestamptz[], $10::timestamptz[], $11::text[])
    AS n (inspection_id, status, title, answers, note, version, is_deleted, updated_at, submitted_at, decided_at, decided_by)
WHERE i.inspection_id = n.inspection_id

-- name: finish
-- What is final stays under its key, the other claims go and do not count.
WITH final AS (
    UPDATE sync_operations o SET status = n.status, result = n.result
    FROM unnest($2::text[], $3::text[], $4::text[]) AS n (idempotency_key, status, result)
    WHERE o.idempotency_key = n.idempotency_key AND o.principal = $1
), given_up AS (
    DELETE FROM sync_operations WHERE principal = $1 AND idempotency_key = ANY ($5::text[])
)
UPDATE operation_days SET used = used - cardinality($5) WHERE principal = $1 AND day = $6 AND cardinality($5) > 0

-- name: prune_operations
-- One batch of keys whose time is over; how many there were. now() and no other clock: an index is not used for one that moves.
WITH old AS (
    DELETE FROM sync_operations WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM sync_operations WHERE processed_at < now() - $1::interval LIMIT $2))
    RETURNING 1
)
SELECT count(*) FROM old

-- name: prune_days
WITH old AS (
    DELETE FROM operation_days WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM operation_days WHERE day < (clock_timestamp() AT TIME ZONE 'UTC')::date - 2 LIMIT $1))
    RETURNING 1
)
SELECT count(*) FROM old
