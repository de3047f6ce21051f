-- name: identify
-- What the server says it is, beside what the log was written under.
SELECT pg_is_in_recovery() AS replica,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_id,
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer END AS timeline,
       pg_postmaster_start_time() AS started_at, pg_backend_pid() AS backend,
       l.system_id AS known_system_id, l.timeline AS known_timeline, l.epoch
FROM log_identity l

-- name: find_witness
-- The event that stood at this place, with what retention and raised epochs say about it.
SELECT d.epoch, d.floor_seq, e.event_id
FROM devices d LEFT JOIN events e ON e.device_id = d.device_id AND e.seq = $2
WHERE d.device_id = $1

-- name: raise_log_epoch
-- Compare-and-set: of many processes that notice one loss, one raises.
UPDATE log_identity SET
    epoch = epoch + 1,
    system_id = (SELECT system_identifier::text FROM pg_control_system()),
    timeline = ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer,
    reason = $2,
    raised_at = clock_timestamp()
WHERE epoch = $1
RETURNING epoch

-- name: lock_all_devices
SELECT FROM devices ORDER BY device_id FOR NO KEY UPDATE

-- name: raise_all_devices
-- Above what each has, which may be more than the log's: a device that claimed too much has an epoch of its own. One that has
-- claimed all the numbers there are stays where it is, and hurts only itself.
UPDATE devices SET epoch = LEAST(GREATEST(epoch::bigint + 1, $1), 2147483647)

-- name: lock_all_cursors
-- In id order, as acks and greetings lock them.
SELECT FROM cursors ORDER BY device_id FOR NO KEY UPDATE

-- name: raise_all_cursors
-- A cursor's acked position survives; acks given in the old epoch no longer match.
UPDATE cursors c SET epoch = d.epoch, acked_seq = LEAST(c.acked_seq, d.head_seq)
FROM devices d WHERE d.device_id = c.device_id

-- name: current_epoch
SELECT epoch FROM log_identity

-- name: raise_device_epoch
-- One device's epoch, above both what it has and what the device claimed, if it still is what was seen.
WITH locked AS (
    SELECT device_id FROM devices WHERE device_id = $1 AND epoch = $2::bigint FOR NO KEY UPDATE
), raised AS (
    UPDATE devices d SET epoch = LEAST(GREATEST($2::bigint, $3::bigint) + 1, 2147483647)
    FROM locked WHERE d.device_id = locked.device_id
    RETURNING d.device_id, d.epoch, d.head_seq
)
UPDATE cursors c SET epoch = raised.epoch, acked_seq = LEAST(c.acked_seq, raised.head_seq)
FROM raised WHERE c.device_id = raised.device_id
RETURNING c.epoch
