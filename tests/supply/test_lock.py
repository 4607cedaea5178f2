"""The locked set: hashes of every file, everything that the project asks for, and a licence for each."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from supply.lock import APART, LOCK, WITH_TORCH, locked

from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_locked_package_has_the_hash_of_a_file():
    assert len(locked()) > 100
    entries = locked(LOCK) | locked(APART)
    for name, (_, _, hashes) in entries.items():
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name


def test_what_the_project_asks_for_is_locked_in_a_version_that_will_do():
    entries = locked(LOCK) | locked(APART)
    asked = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    for requirement in map(Requirement, asked):
        name = canonicalize_name(requirement.name)
        if name == "glassworks" or WITH_TORCH.match(name):
            continue
        assert name in entries, name
        assert requirement.specifier.contains(entries[name][0]), requirement


def test_every_locked_package_stands_in_the_list_of_licences():
    rows = re.findall(r"^\| ([a-z0-9.\-]+) \| (\S+) \|", (ROOT / "docs/licences.md").read_text(), re.MULTILINE)
    pinned = {name: version for name, (version, _, _) in locked().items()}
    listed = dict(rows)
    assert {name: listed.get(name) for name in pinned} == pinned


def test_a_lock_is_read_with_versions_markers_and_hashes(tmp_path):
    lock = tmp_path / "constraints.txt"
    lock.write_text(
        "# head\nnumpy==2.4.6 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nappnope==1.0 ; sys_platform == 'darwin' \\\n    --hash=sha256:cc\n"
    )
    assert locked(lock) == {
        "numpy": ("2.4.6", "", ["sha256:aa", "sha256:bb"]),
        "appnope": ("1.0", "sys_platform == 'darwin'", ["sha256:cc"]),
    }
