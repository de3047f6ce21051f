"""The bus: Redis as a fast hint that may lose, repeat, delay or reorder. The log repairs whatever it does."""
