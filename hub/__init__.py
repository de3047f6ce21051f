"""Hubs hold the device sockets and push what the log records."""
