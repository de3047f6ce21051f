"""Asks a model by the OpenAI chat interface: what it is asked, how, for how long and for how much."""
