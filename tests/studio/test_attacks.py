"""What an attacker, a bad disk and a broken folder may not do to the studio."""

import http.client
import io
import json
import os
import signal
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from glassworks.core.errors import InvalidInput, NoSpace
from glassworks.core.text import say
from glassworks.models.trained_models import model_in
from glassworks.studio import crew, records
from glassworks.studio.frames import decode
from glassworks.studio.guard import FORBIDDEN, MISDIRECTED, UNAUTHORISED, Door
from glassworks.studio.jobs.job import Job, Order
from glassworks.studio.jobs.keeper import Keeper
from glassworks.studio.jobs.reading import events_after, report_of, summary
from glassworks.studio.refusals import BUSY, Refused, error_json
from glassworks.surgery.grammar import parse
from tests.studio.conftest import Running
from tests.studio.test_crew import run

pytestmark = pytest.mark.slow
DOOR = Door.of("s3cret", 8800, "127.0.0.1")
HOST = (b"host", b"127.0.0.1:8800")
COOKIE = b"glassworks-8800=s3cret"
ORDER = {"verb": "train", "about": "x", "title": "t", "words": ["--version"], "choices": {}, "facts": {}}
TOLD = {
    "format": 1,
    "created": 1.0,
    "wish": "stop",
    "session": 1,
    "started": 1.0,
    "pid": None,
    "born": None,
    "threads": 1,
}


def asked(*headers: tuple[bytes, bytes], door: Door = DOOR, host: tuple[bytes, bytes] = HOST) -> int | None:
    return door.refuses({"headers": [host, *headers], "path": "/api/models", "query_string": b""})


def call(
    studio: Running, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, Any]:
    line = http.client.HTTPConnection(studio.base.removeprefix("http://"), timeout=60)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    line.request("GET" if data is None else "POST", path, data, {"content-type": "application/json"} | (headers or {}))
    answer = line.getresponse()
    content = answer.read()
    line.close()
    return answer.status, dict(answer.getheaders()), content


def bearer(studio: Running) -> dict[str, str]:
    return {"authorization": f"Bearer {studio.token}"}


@pytest.mark.parametrize("before", [b'_x={"a":1, b}; ', b"na me=1 2; ", b"=; ;; ", b"glassworks-8800=stale; "])
def test_the_cookie_counts_beside_cookies_of_other_programs_that_no_parser_takes(before: bytes) -> None:
    assert asked((b"cookie", before + COOKIE)) is None
    assert asked((b"cookie", before)) == UNAUTHORISED


def test_of_a_header_that_comes_twice_each_value_counts() -> None:
    cookie = (b"cookie", COOKIE)
    assert asked(cookie, (b"origin", b"http://evil.example"), (b"origin", b"http://127.0.0.1:8800")) == FORBIDDEN
    assert asked(cookie, (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-site", b"same-origin")) == FORBIDDEN
    assert asked(cookie, (b"host", b"evil.example")) == MISDIRECTED


def test_on_the_standard_port_browsers_leave_the_port_out() -> None:
    door = Door.of("s3cret", 80, "127.0.0.1")
    cookie = (b"cookie", b"glassworks-80=s3cret")
    assert asked(cookie, door=door, host=(b"host", b"localhost")) is None
    assert asked(cookie, host=(b"host", b"localhost")) == MISDIRECTED


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"192.168.0.7:8800", None),
        (b"[fe80::1]:8800", None),
        (b"localhost:8800", None),
        (b"192.168.0.7:8801", MISDIRECTED),
        (b"evil.example:8800", MISDIRECTED),
        (b"192.168.0.7.evil.example:8800", MISDIRECTED),
        (b"192.168.0.7", MISDIRECTED),
    ],
)
def test_a_studio_on_every_address_takes_numbers_and_no_foreign_names(host: bytes, status: int | None) -> None:
    door = Door.of("s3cret", 8800, "0.0.0.0")
    assert asked((b"cookie", COOKIE), door=door, host=(b"host", host)) == status
    assert asked((b"cookie", COOKIE), (b"origin", b"http://6.6.6.6:8800"), door=door, host=(b"host", host)) is not None


def test_the_way_in_never_leads_to_another_machine(studio: Running) -> None:
    for path in ("//evil.example/x", "/%2f%2fevil.example/x", "///evil.example"):
        status, headers, _ = call(studio, f"{path}?token={studio.token}")
        assert status == 303
        assert headers["location"].startswith("/")
        assert not headers["location"].startswith("//")


def test_half_a_character_and_bottomless_questions_are_clear_errors(studio: Running) -> None:
    for body in (
        b'{"kind":"walk","model":"bundled/duet","text":"\\ud83d"}',
        b'{"kind":"model","model":"\\ud83d"}',
        b'{"kind":"check_form","verb":"train","choices":' + b'{"a":' * 300 + b"1" + b"}" * 301,
    ):
        kind = json.loads(body[: body.index(b",")] + b"}")["kind"]
        status, headers, answer = call(studio, f"/api/ask/{kind}", body, bearer(studio))
        assert status >= 400
        assert headers["content-type"].startswith("application/json")
        assert json.loads(answer)["what"]


def test_an_error_with_half_a_character_can_be_sent() -> None:
    assert json.dumps(error_json(ValueError("\ud83d"), "en"), ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["(" * 9000 + "0" + ")" * 9000, "[0|" * 5000])
def test_a_plan_of_thousands_of_parentheses_is_named_as_such(text: str) -> None:
    with pytest.raises(InvalidInput, match="nested too deeply"):
        parse(text, 2)
    assert parse("(" * 30 + "0" + ")" * 30 + " (1)" * 100, 2)


@pytest.mark.parametrize(
    ("config", "head"),
    [
        ("[]", None),
        ("3", None),
        ('{"architectures": 5}', None),
        ('{"architectures": {"a": 1}}', None),
        ("{}", b'{"a": {}}'),
        ("{}", b'{"a": {"shape": ["x"]}}'),
        ("{}", b'{"a": {"shape": [-1]}}'),
        ("{}", b"[1]"),
        ("{}", b"[" * 100_000),
        ("{}", None),
    ],
)
def test_a_damaged_model_folder_is_left_out_or_listed_and_never_fails(
    tmp_path: Path, config: str, head: bytes | None
) -> None:
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "stage.json").write_text('{"before": "abc"}')
    # Without a head: one that says it is longer than all memory.
    length = 1 << 62 if head is None else len(head)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", length) + (head or b"{}"))
    assert model_in(tmp_path) is None


def job_in(out: Path, name: str = "h", **fields: object) -> Path:
    folder = out / "jobs" / name
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(ORDER | TOLD | fields))
    return folder


@pytest.mark.parametrize(
    "fields",
    [
        {"pid": "x", "born": 1.0}, {"pid": -1, "born": 1.0}, {"pid": 0, "born": 1.0}, {"pid": 1.5, "born": 1.0},
        {"pid": 1, "born": "x"}, {"created": 10**400}, {"created": 1e999}, {"title": "\ud83d"}, {"words": 5},
        {"choices": {"a": float("inf")}},
    ],
)  # fmt: skip
def test_a_damaged_job_is_not_listed_and_keeps_no_other_waiting(tmp_path: Path, fields: dict[str, Any]) -> None:
    job_in(tmp_path, **fields)
    job_in(tmp_path, "good")
    keeper = Keeper(tmp_path)
    keeper.tick()
    assert [job.identifier for job in keeper.all()] == ["good"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"step_done","step":"a"}',
        b'{"kind":"step_done"}',
        b'{"kind":"progressed"}',
        b'{"kind":' + b"[" * 5000,
        b'{"kind":"measured","name":"\\ud83d"}',
    ],
)
def test_what_a_job_tells_may_be_anything(tmp_path: Path, line: bytes) -> None:
    folder = job_in(tmp_path)
    (folder / "events.jsonl").write_bytes(line + b"\n")
    job = Job.read(folder)
    assert job is not None
    told = [summary(job), events_after(job, 0)]
    assert json.dumps(told, ensure_ascii=False).encode()


def test_a_report_that_a_job_names_with_a_nul_is_none(tmp_path: Path) -> None:
    folder = job_in(tmp_path)
    (folder / "ended.json").write_text('{"session": 1, "code": 0, "at": 1}')
    (folder / "stdout").write_text('{"report": "\\u0000"}')
    job = Job.read(folder)
    assert job is not None
    with pytest.raises(Exception, match="no report"):
        report_of(job, tmp_path)


def test_a_linked_job_folder_is_neither_listed_nor_removed(tmp_path: Path) -> None:
    elsewhere = job_in(tmp_path / "elsewhere")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "link").symlink_to(elsewhere)
    assert Keeper(tmp_path).all() == []


def test_on_a_full_disk_no_process_is_started_that_nobody_knows_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(tmp_path, program=("/bin/sh", "-c", f"touch {tmp_path}/ran"))
    job_in(tmp_path, wish="run", session=0)

    def full(self: Job) -> None:
        raise NoSpace(say("{name}: full", name=self.identifier))

    monkeypatch.setattr(Job, "write", full)
    for _ in range(3):
        with pytest.raises(NoSpace):
            keeper.tick()
    with pytest.raises(NoSpace):
        keeper.add(Order("train", "x", "t", ()))
    keeper.wait()
    assert not (tmp_path / "ran").exists()
    assert os.listdir(tmp_path / "jobs") == ["h"]


@pytest.mark.nightly
def test_a_worker_that_was_held_is_replaced_and_the_question_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "SILENT", 1.0)
    questions = crew.Questions(crew.Crew("questions", {"out": str(tmp_path), "folders": [], "most_parameters": 1}))

    async def work() -> None:
        questions.crew.start()
        try:
            await questions.ask({"kind": "models"}, 60, "en")
            assert questions.crew.pid is not None
            os.kill(questions.crew.pid, signal.SIGSTOP)
            with pytest.raises(Refused) as refused:
                # Longer than a pipe holds, so that already the asking waits.
                await questions.ask({"kind": "models", "x": "x" * 300_000}, 60, "en")
            assert refused.value.status == BUSY
            monkeypatch.setattr(crew, "SILENT", 20.0)
            assert decode(await questions.ask({"kind": "models"}, 60, "en"))["models"]
        finally:
            await questions.crew.stop()

    run(work())


def test_any_folder_of_the_store_can_be_listed_and_taken_along(studio: Running) -> None:
    made = [studio.out / "store" / name for name in ('a"b', "中文", "a\nb")]
    for folder in (*made, studio.out / "store" / os.fsdecode(b"\xff")):
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text('{"kind": "\\ud83d"}')
        os.utime(folder / "stage.json", (0, 0))
        (folder / "passwd").symlink_to("/etc/passwd")
    assert {one["digest"] for one in json.loads(call(studio, "/api/store", None, bearer(studio))[2])["store"]} >= {
        folder.name for folder in made
    }
    for name in ("a%22b", "%E4%B8%AD%E6%96%87", "a%0Ab"):
        status, headers, packed = call(studio, f"/api/store/{name}/archive", None, bearer(studio))
        assert status == 200
        assert headers["content-disposition"].count('"') == 2
        assert [one.rpartition("/")[2] for one in zipfile.ZipFile(io.BytesIO(packed)).namelist()] == ["stage.json"]
    for folder in records.store_here(studio.out):
        records.delete_stored(records.stored_named(studio.out, folder["digest"]))
