"""Everything on one machine: embedded servers and the supervisor that keeps the processes."""
