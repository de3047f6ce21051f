"""The hub: its pure parts by law, its sockets with a real Postgres and Valkey."""
