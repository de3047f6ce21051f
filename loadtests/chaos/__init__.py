"""Fault runs: real processes killed, stopped and cut while events flow, judged by the history checker."""
