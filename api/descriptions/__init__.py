"""What the operations say of themselves, and the types of their bodies: one file for each of `api/routes`."""
