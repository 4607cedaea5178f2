"""Uncovering mesa-optimization (von Oswald et al. 2023): transformers that learn in context by gradient descent."""
