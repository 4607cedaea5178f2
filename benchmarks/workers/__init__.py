"""What runs inside one process of one environment: a peer's side of a comparison, or ours.

Each module is started as `python -m benchmarks.workers.NAME` from the repository's root and speaks JSON with
`benchmarks.sides`. A peer's module imports the peer, torch and `benchmarks.workers.harness`: nothing of Glassworks.
"""
