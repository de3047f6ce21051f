"""RabbitMQ as the carrier of job hints, in place of Redis Streams. Imported only where the settings name one."""
