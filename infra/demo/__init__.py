"""The demonstration: three devices, three real files, and what becomes of them."""
