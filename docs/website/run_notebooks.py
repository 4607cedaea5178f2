"""Runs the notebooks and keeps what they print: `python docs/website/run_notebooks.py [NAME ...] [--into FOLDER]`.

Each runs in a new folder, so that no path of this machine gets into it; what would differ from run to run is taken out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
LONGEST = 300  # seconds for one cell, before it counts as hanging


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; raises nbclient's CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        # Talks to its kernel through files of this user's, not through ports that anybody on the machine can reach.
        kernel = KernelManager(kernel_name="python3", transport="ipc", connection_file=f"{folder}/.kernel.json")
        client = NotebookClient(
            notebook, km=kernel, timeout=LONGEST, startup_timeout=LONGEST, resources={"metadata": {"path": folder}}
        )
        try:
            client.execute(env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLASSWORKS_LANG": "en"})
        finally:
            kernel.shutdown_kernel(now=True)
    return tidied(notebook)


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without times, machine names and progress, and with the same ids at every run."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{number:02d}", nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main(names: list[str], into: Path) -> None:
    """Runs the named notebooks, or all, and writes them into a folder."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        started = time.perf_counter()
        nbformat.write(executed(path), into / path.name)
        sys.stdout.write(f"{path.name}: {time.perf_counter() - started:.0f} s\n")


if __name__ == "__main__":
    reader = argparse.ArgumentParser(description="Runs notebooks and keeps what they print.")
    reader.add_argument("names", nargs="*", help="their names without .ipynb; all of them, if none is named")
    reader.add_argument("--into", type=Path, default=FOLDER, help="where they are written; over themselves by default")
    given = reader.parse_args()
    main(given.names, given.into)
