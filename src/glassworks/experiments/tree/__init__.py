"""The family tree tried out: LLaMA's block against older ones, and the tree's three branches against each other."""
