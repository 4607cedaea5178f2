"""The notebooks run as they stand, in an empty folder, and print what they are kept with."""

import json
import re
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, links

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# Rounding differs from one processor to the next; what the numbers must be like, the notebooks assert themselves.
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


def printed(notebook) -> list[str]:
    """What each cell printed or showed as text, numbers and spaces aside, with the kinds of its outputs."""
    found = list[str]()
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", "")))
            found.append(" ".join([*sorted(data), *NUMBER.sub("#", text).split()]))
    return found


def test_there_are_three_notebooks_and_each_says_what_it_gives():
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        assert re.match(r"# \w", first), path.name
        assert "\nAt the end " in first, path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_kept_notebook_was_run_from_top_to_bottom_and_tells_nothing_of_a_machine(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert sum(bool(cell["outputs"]) for cell in code) >= 5
    text = json.dumps([cell["outputs"] for cell in code])
    assert not re.search(r"/tmp/|/home/|/root/|/Users/", text)
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_have_their_targets(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert [target for target in links(text) if not (path.parent / target.split("#")[0]).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_is_kept_with(path, tmp_path):
    command = [sys.executable, "docs/website/run_notebooks.py", path.stem, "--into", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    fresh, kept = (json.loads((folder / path.name).read_text(encoding="utf-8")) for folder in (tmp_path, path.parent))
    assert printed(fresh) == printed(kept)
