"""The log and everything else that is true because it is committed in Postgres."""
