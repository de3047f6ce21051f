"""Tests of what each path answers, against a real server and a real Postgres."""
