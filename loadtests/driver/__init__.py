"""A load driver in its own process: thousands of device sockets, plain asyncio, judged by a history checker."""
