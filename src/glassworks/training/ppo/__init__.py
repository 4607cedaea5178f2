"""Proximal policy optimisation of a language model against a reward, with KL to a frozen reference (lifecycle.md 4)."""
