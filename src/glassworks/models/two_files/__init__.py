"""A model as two files: its parameters, and one short program in numpy that runs them."""

from glassworks.models.two_files.writing import write_two_files

__all__ = ["write_two_files"]
