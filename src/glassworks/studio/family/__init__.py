"""What the family tree shows: the models of the tree, and a preset built without memory for its numbers."""
