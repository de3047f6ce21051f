"""How many hubs there should be, decided in one place for one machine and for Kubernetes."""
