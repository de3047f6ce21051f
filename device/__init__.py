"""The client SDK: every event once and in order, by socket or by REST."""
