"""What a delivered event costs: the hub beside a bare relay, on the same sockets, in the same run."""
