"""The command line: a thin reader of specs, run folders and verdicts; each command imports what it needs itself."""
