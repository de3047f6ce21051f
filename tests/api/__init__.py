"""Tests of the API, in the layout of the package."""
