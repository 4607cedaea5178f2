"""The stages of a model's life, each from the folder that the one before left (lifecycle.md 4); shelf.py lists them."""
