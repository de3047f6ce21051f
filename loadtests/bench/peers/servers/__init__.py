"""The peers as small programs of their own: nothing here imports them, they run in the throw-away environment."""
