"""Workers turn queued jobs into response files and recorded events."""
