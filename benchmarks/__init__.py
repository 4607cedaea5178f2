"""Side-by-side runs against the published recipe and the bare machine; `make bench`."""
