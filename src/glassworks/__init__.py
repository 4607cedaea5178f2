"""Glassworks: see, train, examine and operate on transformer language models, with the evidence attached."""
