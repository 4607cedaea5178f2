"""Transformer Layers as Painters (Sun et al. 2025), reproduced."""
