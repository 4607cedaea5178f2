"""The door: only this machine's names, only the token's holder, no request from another page."""

import pytest

from glassworks.studio.guard import FORBIDDEN, MISDIRECTED, TOO_LARGE, UNAUTHORISED, Door

DOOR = Door.of("s3cret", 8800, "127.0.0.1")
HOST = (b"host", b"127.0.0.1:8800")


def asked(*headers: tuple[bytes, bytes], path: str = "/api/models", query: bytes = b"") -> int | None:
    return DOOR.refuses({"headers": [HOST, *headers], "path": path, "query_string": query})


@pytest.mark.parametrize(
    "way",
    [
        {"query": b"token=s3cret"},
        {"headers": [(b"authorization", b"Bearer s3cret")]},
        {"headers": [(b"cookie", b"other=1; glassworks-8800=s3cret")]},
    ],
)
def test_the_token_comes_by_address_header_or_cookie(way: dict) -> None:
    assert asked(*way.get("headers", []), query=way.get("query", b"")) is None


@pytest.mark.parametrize(
    "query", [b"", b"token=", b"token=s3cre", b"token=s3crets", b"token=S3CRET", "token=密".encode()]
)
def test_anything_else_is_no_token(query: bytes) -> None:
    assert asked(query=query) == UNAUTHORISED


def test_another_studios_cookie_is_none() -> None:
    assert asked((b"cookie", b"glassworks-8801=s3cret")) == UNAUTHORISED


@pytest.mark.parametrize(
    "host", [b"evil.example", b"127.0.0.1", b"127.0.0.1:8801", b"localhost:8800.evil.example", b""]
)
def test_a_foreign_name_is_misdirected_even_with_the_token(host: bytes) -> None:
    scope = {"headers": [(b"host", host)], "path": "/", "query_string": b"token=s3cret"}
    assert DOOR.refuses(scope) == MISDIRECTED


@pytest.mark.parametrize("host", [b"localhost:8800", b"[::1]:8800", b"127.0.0.1:8800", b"LOCALHOST:8800"])
def test_this_machines_names_come_in(host: bytes) -> None:
    assert DOOR.refuses({"headers": [(b"host", host)], "path": "/", "query_string": b"token=s3cret"}) is None


@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"https://127.0.0.1:8800", b"http://127.0.0.1:9999"]
)
def test_another_pages_request_is_refused_even_with_the_token(origin: bytes) -> None:
    assert asked((b"origin", origin), query=b"token=s3cret") == FORBIDDEN


def test_a_request_that_the_browser_calls_cross_site_is_refused() -> None:
    assert asked((b"sec-fetch-site", b"cross-site"), query=b"token=s3cret") == FORBIDDEN
    assert asked((b"sec-fetch-site", b"same-site"), query=b"token=s3cret") == FORBIDDEN
    assert asked((b"sec-fetch-site", b"none"), query=b"token=s3cret") is None


def test_a_body_beyond_the_limit_is_refused_before_it_is_read() -> None:
    assert asked((b"content-length", b"999999999"), query=b"token=s3cret") == TOO_LARGE


def test_only_the_built_files_need_no_token() -> None:
    assert asked(path="/assets/x.js") is None
    assert asked(path="/") == UNAUTHORISED
    assert asked(path="/api/openapi.json") == UNAUTHORISED
    assert asked(path="/api/assets/x") == UNAUTHORISED


@pytest.mark.parametrize("path", ["/favicon.svgx", "/favicon.svg/..", "/assets", "/assetsx/x.js"])
def test_a_path_that_only_begins_like_a_built_file_needs_the_token(path: str) -> None:
    assert asked(path=path, query=b"token=wrong") == UNAUTHORISED
