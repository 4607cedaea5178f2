"""`make fuzz`: minutes at each door, guided by which of our lines a text reaches; tells and keeps what breaks one.

A finding is anything but a value or a GlassworksError, an answer that takes more than ten seconds of processor time, and
memory above 1 GB. Each door is tried by a process of its own; the same seed gives the same texts.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLASSWORKS_LANG": "en"}

SECONDS, MEGABYTES, LONGEST = 10, 1024, 4096


def main() -> int:
    """Tries the doors that were asked for; exit code 1 where one broke."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("door", nargs="*", help="these doors alone")
    parser.add_argument("--seconds", type=int, default=60, help="at each door")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--found", type=Path, default=Path("fuzz/found"), help="where texts that break a door are kept")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        return _one(given.one, given.seconds, given.seed, given.found)
    from fuzz.doors import DOORS

    unknown = sorted(set(given.door) - set(DOORS))
    if unknown:
        parser.error(f"no door {', '.join(unknown)}; known: {', '.join(DOORS)}")
    broken = [door for door in given.door or DOORS if not _holds(door, given)]
    print(f"{len(given.door or DOORS)} doors, {len(broken)} broken{': ' if broken else ''}{', '.join(broken)}")
    return 1 if broken else 0


def _holds(door: str, given: argparse.Namespace) -> bool:
    words = ["--one", door, "--seconds", given.seconds, "--seed", given.seed, "--found", given.found]
    ended = subprocess.run(
        [sys.executable, "-m", "fuzz", *map(str, words)], capture_output=True, text=True, errors="replace", check=False
    )
    lines = ended.stderr.splitlines()
    done = next((line for line in reversed(lines) if line.startswith(("Done", "stat::number_of_executed"))), "")
    print(f"{door:9} {'holds ' if ended.returncode == 0 else 'BROKEN'} {done}", flush=True)
    if ended.returncode:
        print("\n".join(lines[-25:]), flush=True)
    return ended.returncode == 0


def _one(name: str, seconds: int, seed: int, found: Path) -> int:
    """Tries one door in this process, which libFuzzer ends."""
    import atheris

    # Only our own readers are followed; a library's insides are its makers' to try.
    # Its types are not declared.
    instrument_imports: Any = atheris.__dict__["instrument_imports"]
    with instrument_imports(include=["glassworks"], enable_loader_override=False):
        from fuzz.doors import DOORS
        from glassworks.core.errors import GlassworksError
    door = DOORS[name]
    warnings.simplefilter("ignore")
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        corpus, dictionary, room = Path(place, "corpus"), Path(place, "words"), Path(place, "room")
        corpus.mkdir()
        room.mkdir()
        for number, example in enumerate(door.examples):
            (corpus / str(number)).write_bytes(example)
        # libFuzzer refuses a list without words.
        dictionary.write_text("".join(f"{_quoted(word)}\n" for word in door.words or (" ",)))

        def knock(raw: bytes) -> None:
            try:
                door.read(raw, room)
            except GlassworksError as problem:
                # It is made only here, and may fail as well.
                problem.__str__()

        atheris.Setup(_options(seconds, seed, found / f"{name}-", corpus, dictionary), knock)
        atheris.Fuzz()
    return 0


def _options(seconds: int, seed: int, found: Path, corpus: Path, dictionary: Path) -> list[Any]:
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return [
        "fuzz", f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={found}", f"-dict={dictionary}",
        f"-timeout={SECONDS}", f"-rss_limit_mb={resident + MEGABYTES}", f"-max_len={LONGEST}", "-print_final_stats=1",
        str(corpus),
    ]  # fmt: skip


def _quoted(word: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


if __name__ == "__main__":
    sys.exit(main())
