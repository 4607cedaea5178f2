"""Infini-attention (Munkhdalai et al. 2024): local attention plus a compressive memory, judged to a million bytes."""
