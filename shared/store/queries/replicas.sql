-- name: stand_of_primary
-- Read after a commit: what was committed before lies at or before `lsn`. A commit that does not wait for the disk may be ahead of
-- what is flushed. Copies are sent no more than that, so `flushed` is what they can have.
SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer AS timeline,
       CASE WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn()
            ELSE pg_current_wal_flush_lsn() END::text AS lsn,
       pg_current_wal_flush_lsn()::text AS flushed,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_id

-- name: stand_of_replica
-- The timeline is that of what it receives, else the last one that it has on its disk, which may be older and never newer.
SELECT pg_is_in_recovery() AS replica,
       GREATEST((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint())) AS timeline,
       pg_last_wal_replay_lsn()::text AS lsn,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_id
