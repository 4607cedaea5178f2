"""A model from its tokenizer to its rewards, weighed and looked into after every stage (lifecycle.md 4, 9)."""
