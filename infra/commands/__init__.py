"""What the commands do that people type; `infra.cli` says how they are called."""
