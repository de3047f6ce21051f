"""How the commands are called, a module for each group of them; what they do is in `infra.commands`."""
