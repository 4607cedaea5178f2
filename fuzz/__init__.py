"""Bytes that a machine makes up, at every door that takes a stranger's file or words."""
