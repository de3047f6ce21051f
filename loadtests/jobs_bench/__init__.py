"""No-op jobs, end to end, one worker process, beside others' queues in Postgres."""
