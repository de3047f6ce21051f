-- Whose turn it is: priority (higher first), round the devices within one, due time within a device; and jobs of which there
-- may be one at a time.

ALTER TABLE jobs
    ADD COLUMN priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -9 AND 9),
    ADD COLUMN unique_key text COLLATE "C";

-- A claim walks this from device to device, and reads of each only what it takes.
CREATE INDEX jobs_turns ON jobs (queue, (-priority), device_id, run_at) WHERE current_status IN ('queued', 'retry');
-- How long the oldest waits. What asks says `attempts >= 0`, which is always true: so no claim may take this index for the one
-- above because both begin with the queue, and go through the jobs of one device to find another's.
CREATE INDEX jobs_oldest ON jobs (queue, run_at) WHERE current_status IN ('queued', 'retry') AND attempts >= 0;
-- How many of a device are running.
CREATE INDEX jobs_running ON jobs (queue, device_id) WHERE current_status = 'running';
-- A key says what work it is; only one job that has not ended may do it.
CREATE UNIQUE INDEX jobs_unique ON jobs (device_id, unique_key)
    WHERE unique_key IS NOT NULL AND current_status IN ('queued', 'running', 'retry');
