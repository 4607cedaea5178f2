"""The wheel stands alone: what it carries, and what it does where only its own requirements are installed."""

import json
import os
import re
import subprocess
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.wheels import Environment, built_wheel, downloaded, linked

pytestmark = pytest.mark.slow
# `make wheel` sets it: the packages are then fetched by pip, and everything is tried that takes longer than a glance.
FETCHED = os.environ.get("GLASSWORKS_WHEEL") == "fetched"
long = pytest.mark.skipif(not FETCHED, reason="takes a minute; make wheel runs it")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    assert (ROOT / "src/glassworks/studio/static/index.html").is_file(), "make pages builds what the wheel carries"
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory) -> Environment:
    folder = tmp_path_factory.mktemp("clean") / "environment"
    return downloaded(folder, wheel) if FETCHED else linked(folder, wheel)


@pytest.fixture(scope="module")
def duet(clean) -> str:
    """The bundled model, where the installed package has it."""
    told = clean.run(
        str(clean.python), "-c", "import glassworks, pathlib; print(pathlib.Path(glassworks.__file__).parent)"
    )
    folder = Path(told.stdout.strip())
    assert folder.is_relative_to(clean.root), f"not the installed package: {folder}"
    return str(folder / "studio" / "bundled" / "duet")


def test_the_wheel_carries_pages_model_words_and_licence_and_nothing_of_the_workshop(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    inside = {name for name in names if name.startswith("glassworks/")}
    for name in ("studio/static/index.html", "studio/bundled/duet/model.safetensors", "core/locales/zh/cli.json"):
        assert f"glassworks/{name}" in inside, name
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [
        name for name in names if re.search(r"(^|/)(tests|docs|benchmarks|web|node_modules)/|__pycache__", name)
    ]
    assert wheel.stat().st_size < 15e6
    tracked = subprocess.run(
        ["git", "ls-files", "src/glassworks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    missing = {name.removeprefix("src/") for name in tracked.stdout.split()} - inside
    assert {name for name in missing if (ROOT / "src" / name).exists()} == set()


def test_nothing_is_installed_but_what_the_wheel_asks_for(clean):
    for package in ("trl", "peft", "lm_eval", "datasets", "pytest", "submitit", "bitsandbytes"):
        assert clean.run(str(clean.python), "-c", f"import {package}").returncode != 0, package


def test_the_version_and_the_import_answer_without_torch(clean):
    assert re.fullmatch(r"glassworks \d+\.\d+\.\d+\n", clean.glassworks("--version").stdout)
    code = "import sys, glassworks as gw; print(gw.__version__, 'torch' in sys.modules, len(gw.catalog.SHELVES))"
    told = clean.run(str(clean.python), "-c", code)
    assert re.fullmatch(r"\d+\.\d+\.\d+ False [6-9]\n", told.stdout), told.stderr


def test_a_model_is_operated_on(clean, duet):
    done = clean.glassworks("surgery", duet, "--plan", "0 0 1", "--prompt", "Once upon", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plan"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("life --scale smoke", "train"),
        pytest.param("surgery DUET --plan 0..1 --eval arc_easy", "eval", marks=long),
        pytest.param("train sft --start DUET answers.jsonl", "train", marks=long),
    ],
)
def test_what_needs_an_optional_part_says_which_and_how_to_get_it(clean, duet, words, part):
    done = clean.glassworks(*words.replace("DUET", duet).split())
    assert done.returncode == 1, done.stdout
    assert f"pip install 'glassworks[{part}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_studio_answers(clean):
    work = clean.root / "work"
    work.mkdir(exist_ok=True)
    command = [str(clean.root / "bin" / "glassworks"), "studio", "--port", "0", "--no-browser", "--json"]
    settings = {"HOME": str(work), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command, cwd=work, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            address = json.loads(started.stdout.readline())["address"]
            # The address carries a token, which the studio exchanges for a cookie.
            visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with visitor.open(address, timeout=60) as answer:
                assert "<title>" in answer.read().decode()
        finally:
            started.terminate()


@long
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["doctor", "--json"], '"device": '),
        (["presets", "llama-7b"], "6,738,415,616"),
        (["tree", "--branch", "decoder"], "Chinchilla"),
        (["models"], "smollm2-135m"),
        (["train", "bigram", "steps=20"], "443,904|443.9"),
        (["reproduce", "birth", "--scale", "smoke", "--only", "main"], "report.html"),
        (["claims", "check", "birth"], "undecided"),
        (["runs", "verify"], ""),
        (["plan", "--flops", "5.76e23"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_does_its_work(clean, words, wanted):
    done = clean.glassworks(*words)
    assert done.returncode == 0, done.stderr
    assert re.search(wanted, done.stdout), done.stdout[-2000:]


@long
def test_a_model_is_examined_and_continued(clean, duet):
    text = "The king of the north came home and the king of the north came"
    done = clean.glassworks("examine", duet, "--text", text, "--json")
    assert done.returncode == 0, done.stderr
    assert Path(clean.root, "work", json.loads(done.stdout)["report"]).is_file()
    assert " home" in clean.glassworks("generate", duet, "--prompt", text, "--json").stdout
