"""Scaling laws at small scale, and language models as compressors."""
