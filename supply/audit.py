"""What is known against the locked packages, from databases of vulnerabilities, with pip-audit."""

import json
import tempfile
from pathlib import Path

from supply.lock import LOCK
from supply.tools import PIP_AUDIT, tool

# The package index's own records, then OSV: where one cannot be reached, the other is asked.
SERVICES = ("pypi", "osv")


def audit() -> int:
    """Prints each known vulnerability; a package that no database could be asked about is named, never called clean."""
    for service in SERVICES:
        found = _asked(service)
        if found is None:
            print(f"{service}: no database could be reached")
            continue
        unknown = [one["name"] for one in found if "skip_reason" in one]
        bad = [(one, flaw) for one in found for flaw in one.get("vulns", [])]
        print(f"{service}: {len(found) - len(unknown)} packages looked up, {len(unknown)} not to be found there")
        for one, flaw in bad:
            mended = ", ".join(flaw["fix_versions"]) or "none yet"
            print(f"  {one['name']} {one['version']}: {flaw['id']} (mended in {mended})")
        if len(unknown) < len(found):
            if unknown:
                print("  not looked up:", ", ".join(unknown))
            return int(bool(bad or unknown))
    print("nothing is known either way: no package could be looked up")
    return 1


def _asked(service: str) -> list[dict[str, object]] | None:
    """What a service says of every package; None where it cannot be reached."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "audit.json"
        tool(
            PIP_AUDIT, "pip-audit", "--vulnerability-service", service, "--requirement", str(LOCK), "--no-deps",
            "--disable-pip", "--format", "json", "--output", str(answer), "--progress-spinner", "off",
        )  # fmt: skip
        if not answer.is_file():
            return None
        return json.loads(answer.read_text(encoding="utf-8"))["dependencies"]
