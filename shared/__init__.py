"""What more than one process needs: the protocol, the log, the bus, cloud stores, telemetry and lifecycle."""
