"""What the Examine page shows of a model and a text, by the instruments of the report."""
