"""The generators of the site lie in `docs`, where MkDocs finds them; its tests look there too."""

import sys

from tests.docs.pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))
