"""The Autobahn cases (RFC 6455 and RFC 7692) against the hub's connection class."""
