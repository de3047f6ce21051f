"""Tests of the model handler."""
