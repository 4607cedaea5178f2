"""The little torch that all rooms share: dimension legend, seeds, devices, checked files."""
