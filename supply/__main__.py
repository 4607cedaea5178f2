"""`python -m supply lock|check|audit|sbom`: what each does is said by `--help`."""

import argparse
import sys

from supply import audit, bill, lock

COMMANDS = {
    "lock": (lock.write, "resolve pyproject.toml again and write constraints.txt, every package with the hashes of all its files"),
    "check": (lock.check, "compare this environment with constraints.txt"),
    "audit": (audit.audit, "ask the databases of known vulnerabilities about every package; needs the network"),
    "sbom": (bill.write, "write dist/sbom-python.json, dist/sbom-web.json (CycloneDX) and docs/licences.md"),
}  # fmt: skip


def main() -> int:
    """Runs one command; 0 when all is well, 1 when something was found or could not be looked up."""
    parser = argparse.ArgumentParser(prog="supply", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, says) in COMMANDS.items():
        commands.add_parser(name, help=says, description=says)
    given = parser.parse_args()
    work, _ = COMMANDS[given.command]
    return work()


if __name__ == "__main__":
    sys.exit(main())
