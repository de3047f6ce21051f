-- Claims walk jobs_turns now, and would take this index for it.
DROP INDEX jobs_due;
