"""The studio as a process: its one line, its answers, and what it survives."""

import http.client
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from glassworks.studio.guard import MOST_BODY_BYTES
from tests.studio.conftest import Running, running_studio

pytestmark = pytest.mark.slow


def call(
    studio: Running, path: str, body: object = None, *, method: str = "", headers: dict[str, str] | None = None
) -> tuple[int, Any, Any]:
    """Status, headers and body of a request with the token in its header."""
    host = studio.base.removeprefix("http://")
    line = http.client.HTTPConnection(host, timeout=60)
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    sent = {"authorization": f"Bearer {studio.token}", "content-type": "application/json"} | (headers or {})
    line.request(method or ("GET" if data is None else "POST"), path, data, sent)
    answer = line.getresponse()
    content = answer.read()
    line.close()
    is_json = (answer.getheader("content-type") or "").startswith("application/json")
    return answer.status, dict(answer.getheaders()), json.loads(content) if is_json else content


def workers(studio: Running) -> list[psutil.Process]:
    return psutil.Process(studio.process.pid).children()


def test_without_the_token_nothing_is_told(studio: Running) -> None:
    for path in ("/", "/api/models", "/api/openapi.json", "/api/state", "/walk"):
        status, _, body = call(studio, path, headers={"authorization": "Bearer wrong"})
        assert status == 401, path
        assert b"token" in json.dumps(body).encode()


def test_a_person_with_an_old_bookmark_reads_what_to_do(studio: Running) -> None:
    status, headers, page = call(studio, "/walk", headers={"authorization": "", "accept": "text/html"})
    assert status == 401
    assert headers["content-type"].startswith("text/html")
    assert "printed when it started" in page.decode()
    assert "令牌" in page.decode()


def test_a_foreign_host_and_a_foreign_page_are_turned_away(studio: Running) -> None:
    assert call(studio, "/api/models", headers={"host": "evil.example"})[0] == 421
    assert call(studio, "/api/models", headers={"origin": "http://evil.example"})[0] == 403


def test_every_answer_forbids_inline_script_and_grants_no_origin(studio: Running) -> None:
    for path in ("/", "/api/models", "/api/none", "/favicon.svg"):
        _, headers, _ = call(studio, path)
        policy = headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "default-src 'none'" in policy
        assert "access-control-allow-origin" not in headers
        assert headers["x-content-type-options"] == "nosniff"


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(studio: Running) -> None:
    status, headers, _ = call(studio, f"/walk?lang=zh&token={studio.token}", headers={"authorization": ""})
    assert status == 303
    assert headers["location"] == "/walk?lang=zh"
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]


def test_models_are_listed_and_a_wrong_name_is_answered_with_the_nearest(studio: Running) -> None:
    status, _, found = call(studio, "/api/models")
    assert status == 200
    assert "bundled/duet" in [one["id"] for one in found["models"]]
    status, _, error = call(studio, "/api/ask/model", {"kind": "model", "model": "bundled/duett"})
    assert status == 404
    assert "bundled/duet" in error["right"]
    status, _, error = call(studio, "/api/ask/model?lang=zh", {"kind": "model", "model": "bundled/duett"})
    assert "bundled/duet" in error["right"]
    assert "未知" in error["what"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"kind":"model"}',
        b'{"kind":"models","x":1}',
        b"\xff\xfe",
        b'{"kind":"model","model":{}}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_question_is_a_clear_error(studio: Running, body: bytes) -> None:
    status, _, error = call(studio, "/api/ask/model", body, method="POST")
    assert status in (400, 422)
    assert error["what"]


def test_paths_are_looked_up_and_never_joined(studio: Running) -> None:
    for path in (
        "/api/runs/..%2f..%2f/etc",
        "/api/runs/birth/..",
        "/api/store/..%2f..",
        "/assets/..%2f..%2fserver.py",
        "/assets/%2e%2e/%2e%2e/server.py",
    ):
        assert call(studio, path)[0] in (400, 404, 405), path
    for model in ("../../etc", "/etc", "folder/../x", "trained/../../x"):
        assert call(studio, "/api/ask/model", {"kind": "model", "model": model})[0] == 404


def test_a_body_beyond_the_limit_is_refused(studio: Running) -> None:
    status, _, error = call(studio, "/api/ask/model", b"x" * (MOST_BODY_BYTES + 1), method="POST")
    assert status == 413
    assert str(MOST_BODY_BYTES) in error["what"]


def socket_of(studio: Running, path: str = "/api/playground", **headers: str) -> Any:
    named = {"Origin": studio.base, "Cookie": f"glassworks-{studio.base.rpartition(':')[2]}={studio.token}"} | headers
    return connect(
        f"{studio.base.replace('http', 'ws')}{path}", additional_headers=named, open_timeout=30, max_size=None
    )


def test_a_socket_of_another_page_or_without_the_token_is_not_opened(studio: Running) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Cookie": ""}):
        with pytest.raises(Exception, match="403"), socket_of(studio, **headers):
            pass


def _talk(line: Any, message: str | bytes) -> None:
    """Says something and listens on."""
    line.send(message)
    for _ in range(50):
        line.recv(timeout=10)


@pytest.mark.parametrize("message", ["{", "null", "[]", '{"kind":"nothing"}', b"\x00\xff" * 10, "x" * 3_000_000])
def test_a_malformed_or_huge_message_closes_that_socket_only(studio: Running, message: str | bytes) -> None:
    with socket_of(studio) as healthy, socket_of(studio) as bad:
        healthy.recv(timeout=60)
        bad.recv(timeout=60)
        with pytest.raises(ConnectionClosed):
            _talk(bad, message)
        assert bad.state.name in ("CLOSED", "CLOSING")
        healthy.send(json.dumps({"kind": "step", "unit": "epoch", "count": 1}))
        assert healthy.recv(timeout=30)


def test_fifty_tabs_leave_the_studio_answering(studio: Running) -> None:
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket_of(studio)) for _ in range(50)]
        with ThreadPoolExecutor(50) as many:
            answers = list(many.map(lambda _: call(studio, "/api/models")[0], range(50)))
        assert answers == [200] * 50
        assert all(one.recv(timeout=60) for one in sockets)
        started = time.monotonic()
        assert call(studio, "/api/state")[0] == 200
        assert time.monotonic() - started < 5


@pytest.mark.nightly
def test_a_killed_worker_is_started_again_and_the_question_is_told(tmp_path: Path) -> None:
    with running_studio(tmp_path) as studio:
        assert call(studio, "/api/models")[0] == 200
        for worker in workers(studio):
            os.kill(worker.pid, signal.SIGKILL)
        assert call(studio, "/api/state")[0] == 200
        # Either it was noticed before the question (then it waits for the new worker) or in its middle (then it is told).
        statuses = [call(studio, "/api/models")[0] for _ in range(2)]
        assert statuses[-1] == 200
        assert set(statuses) <= {200, 503}


def test_ctrl_c_ends_the_studio_and_its_workers(tmp_path: Path) -> None:
    with running_studio(tmp_path) as studio:
        assert call(studio, "/api/models")[0] == 200
        children = workers(studio)
        studio.process.send_signal(signal.SIGINT)
        assert studio.process.wait(20) in (0, 130)
        _, alive = psutil.wait_procs(children, 10)
        assert not alive


def test_a_killed_studio_leaves_no_worker_behind(tmp_path: Path) -> None:
    with running_studio(tmp_path) as studio:
        assert call(studio, "/api/models")[0] == 200
        children = workers(studio)
        studio.process.kill()
        _, alive = psutil.wait_procs(children, 10)
        assert not alive


def test_a_taken_port_is_a_clear_error(studio: Running, capfd: pytest.CaptureFixture[str]) -> None:
    from glassworks.cli.main import main

    assert main(["studio", "--no-browser", "--port", studio.base.rpartition(":")[2]]) == 1
    assert "--port 0" in capfd.readouterr().err
    assert main(["studio", "--no-browser", "--port", "70000"]) == 1
    assert "65535" in capfd.readouterr().err
    assert main(["studio", "--no-browser", "--models", "/nowhere"]) == 1
