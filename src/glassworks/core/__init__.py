"""Specs, shelves, run folders, events, errors and texts: plain Python, no torch."""
