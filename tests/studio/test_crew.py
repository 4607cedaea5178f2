"""Workers: one answers at a time, a cancelled question stops, a stuck or dead worker is replaced."""

import asyncio
import importlib
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from glassworks.studio.child import is_importing
from glassworks.studio.crew import MOST_WAITING, Crew, Questions
from glassworks.studio.frames import decode
from glassworks.studio.refusals import BUSY, MISSING, TOO_LATE, Refused

pytestmark = pytest.mark.slow
MODELS = {"kind": "models"}
# Every one of 256 heads silenced once: many seconds of small steps.
LONG = {"kind": "words_heads", "model": "folder/deep", "text": ",".join(str(1 + i % 90) for i in range(200))}


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that is narrow and very deep."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models")
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 32, "num_attention_heads": 8}
    LlamaForCausalLM(LlamaConfig(vocab_size=100, max_position_embeddings=256, **sizes)).save_pretrained(folder / "deep")
    return folder


def crew(tmp_path: Path, deep: Path | None = None) -> Questions:
    folders = [] if deep is None else [str(deep)]
    return Questions(Crew("questions", {"out": str(tmp_path), "folders": folders, "most_parameters": 10**9}))


def run(work: Coroutine[Any, Any, None]) -> None:
    """In a thread of its own: the browser of other tests keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as one:
        one.submit(asyncio.run, work).result()


async def with_worker(questions: Questions, work: Callable[[Questions], Awaitable[None]]) -> None:
    questions.crew.start()
    try:
        await work(questions)
    finally:
        await questions.crew.stop()


def test_answers_come_in_the_asked_language_and_errors_as_data(tmp_path: Path) -> None:
    async def work(questions: Questions) -> None:
        found = decode(await questions.ask(MODELS, 60, "zh"))
        assert any("两层" in one["title"] for one in found["models"])
        with pytest.raises(Refused) as refused:
            await questions.ask({"kind": "model", "model": "nowhere"}, 60, "en")
        assert refused.value.status == MISSING
        assert set(refused.value.error) == {"what", "given", "right", "next"}

    run(with_worker(crew(tmp_path), work))


def test_a_question_that_nobody_waits_for_is_called_off_and_the_next_is_answered(tmp_path: Path, deep: Path) -> None:
    async def work(questions: Questions) -> None:
        await questions.ask(MODELS, 60, "en")
        pid = questions.crew.pid
        slow = asyncio.create_task(questions.ask(LONG, 600, "en", "mine"))
        while questions.crew.working_on is None:
            await asyncio.sleep(0.01)
        assert questions.standing["mine"].state in ("queued", "running")
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert decode(await questions.ask(MODELS, 60, "en"))["models"]
        assert questions.crew.pid == pid, "it listened, so its process was kept"
        assert "mine" not in questions.standing

    run(with_worker(crew(tmp_path, deep), work))


def test_a_worker_knows_when_it_is_in_the_middle_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_come.py").write_text("import time\nfor _ in range(60):\n    time.sleep(0.01)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_importing(threading.get_ident())
    loading = threading.Thread(target=importlib.import_module, args=("slow_to_come",))
    loading.start()
    time.sleep(0.2)
    assert loading.ident is not None
    assert is_importing(loading.ident)
    loading.join()
    assert not is_importing(loading.ident)


def test_a_question_called_off_during_an_import_leaves_no_half_package_behind(tmp_path: Path) -> None:
    form = {"kind": "form", "verb": "sft"}  # its spec brings packages that take seconds to load

    async def work(questions: Questions) -> None:
        await questions.ask(MODELS, 60, "en")
        pid = questions.crew.pid
        for seconds in (0.2, 0.6, 1.0, 1.5, 2.5):
            asked = asyncio.create_task(questions.ask(form, 60, "en"))
            await asyncio.sleep(seconds)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        assert decode(await questions.ask(form, 60, "en"))["schema"]
        assert questions.crew.pid == pid, "the same process"

    run(with_worker(crew(tmp_path), work))


def test_a_question_beyond_its_time_is_told_so(tmp_path: Path, deep: Path) -> None:
    async def work(questions: Questions) -> None:
        await questions.ask(MODELS, 60, "en")
        with pytest.raises(Refused) as refused:
            await questions.ask(LONG, 0.2, "en")
        assert refused.value.status == TOO_LATE

    run(with_worker(crew(tmp_path, deep), work))


def test_too_many_questions_are_turned_away_at_once(tmp_path: Path) -> None:
    async def work(questions: Questions) -> None:
        waiting = [asyncio.create_task(questions.ask(MODELS, 60, "en")) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await questions.ask(MODELS, 60, "en")
        assert refused.value.status == BUSY
        assert len(await asyncio.gather(*waiting)) == MOST_WAITING

    run(with_worker(crew(tmp_path), work))


def test_a_worker_killed_in_the_middle_is_told_and_replaced(tmp_path: Path, deep: Path) -> None:
    async def work(questions: Questions) -> None:
        await questions.ask(MODELS, 60, "en")
        pid = questions.crew.pid
        assert pid is not None
        slow = asyncio.create_task(questions.ask(LONG, 600, "en"))
        while questions.crew.working_on is None:
            await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Refused) as refused:
            await slow
        assert refused.value.status == BUSY
        assert decode(await questions.ask(MODELS, 60, "en"))["models"]
        assert questions.crew.pid != pid

    run(with_worker(crew(tmp_path, deep), work))
