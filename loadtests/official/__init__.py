"""The vendors' own client libraries against our emulators and S3 server: what they understand is the wire."""
