"""What the documentation site is made of beside the written pages; `docs/hooks.py` hands it to MkDocs."""
