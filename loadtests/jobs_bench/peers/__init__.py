"""Others' queues in Postgres, as small programs that run in the throw-away environment."""
