"""What the commands do that people type; `infra.command_line` says how they are called."""
