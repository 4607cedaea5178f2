"""Tokens, the next word and what changes it: what the walk-through's questions compute, in the worker."""
