"""One pass of a text through a model, opened number by number."""
