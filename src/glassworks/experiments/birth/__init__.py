"""Birth of a Transformer (Bietti et al. 2023): bigram worlds, associative memories, the birth of an induction head."""
