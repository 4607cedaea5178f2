"""`python -m tests.fetch [all]`: the models of the gallery that tests use, small ones alone or all; tests of others are skipped."""

import os
import sys

from glassworks.core.errors import GlassworksError
from glassworks.models.gallery import get
from tests.assets import ROOT

SMALL = ("stories260k", "gpt-nano-sort", "bert-tiny", "minilm")
LARGER = ("t5-title", "smollm2-135m")


def main(words: list[str]) -> None:
    """Fetches what is not here yet; what cannot be had is told and is no failure."""
    os.environ.setdefault("GLASSWORKS_ASSETS", str(ROOT))
    for name in SMALL + (LARGER if "all" in words else ()):
        try:
            get(name)
        except GlassworksError as problem:
            sys.stderr.write(f"tests with {name} will be skipped: {problem}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
