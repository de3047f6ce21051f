-- A response keeps the id of its job when the job itself has gone: by it the watcher knows the folder for one of ours, which it
-- never announces.
ALTER TABLE responses DROP CONSTRAINT IF EXISTS responses_job_id_fkey;
