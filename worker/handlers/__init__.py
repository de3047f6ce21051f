"""Handlers: what turns a request file into response files. `contract.py` says what one is, `registry.py` finds them."""
