"""What the surgery page is told: layers as cards, plans read and made, texts and benchmarks under a plan."""
