"""What the home page shows at once: a sentence read by a small model, and what this machine is."""
