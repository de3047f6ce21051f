"""The contracts between device and server, as pure values: ids, positions, events, frames and close codes."""
