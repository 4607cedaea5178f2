"""What a command will need: asked of the command itself, its words understood, gone with whoever asked."""

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from glassworks.cli.options import Examine, Surgery, read
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import Language, choose_language, current_language, say
from glassworks.studio.jobs.needs import Needs, said_in
from glassworks.studio.questions.desk import Desk, Places
from glassworks.studio.questions.needs import NeedCommand
from glassworks.studio.refusals import Refused


def _needs(program: str, seconds: float = 30.0) -> Needs:
    return Needs(program=(sys.executable, "-S", "-c", program), seconds=seconds)


def test_the_commands_own_estimate_is_the_answer() -> None:
    needs = _needs('import sys; print(\'{"estimate": {"seconds": 2}, "words": %d}\' % len(sys.argv))')
    found = asyncio.run(needs.of(["examine", "a b", "--estimate"], "en"))
    assert found["estimate"] == {"seconds": 2}
    assert found["free_bytes"] > 0
    assert found["command"] == "glassworks examine 'a b' --estimate"


@pytest.mark.parametrize("program", ["print('no JSON')", "print('[]')", "raise SystemExit(3)"])
def test_a_command_that_gives_no_estimate_is_refused_in_words(program: str) -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(_needs(program).of(["examine"], "en"))
    assert refused.value.status == 400
    assert "without an answer" in refused.value.error["what"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_error_that_was_printed_is_the_same_error_again(language: Language) -> None:
    problem = InvalidInput(
        say("the text is empty"), given="x", right=say("delete some"), next_command="glassworks doctor"
    )
    before = current_language()
    choose_language(language)
    try:
        printed = f"a remark\n{say('error')}: {problem}"
    finally:
        choose_language(before)
    assert said_in(printed, language) == {
        "what": say("the text is empty").in_language(language), "given": "x",
        "right": say("delete some").in_language(language), "next": "glassworks doctor",
    }  # fmt: skip


def test_whoever_leaves_takes_the_measurement_along(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    program = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    async def leave() -> None:
        asking = asyncio.create_task(_needs(program).of([], "en"))
        while not (mark.exists() and mark.read_text()):
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(leave())
    assert not psutil.pid_exists(int(mark.read_text()))


def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(_needs("import time; time.sleep(60)", seconds=0.2).of([], "en"))
    assert refused.value.status == 504


def test_the_command_names_the_models_folder_and_opens_nothing(tmp_path: Path) -> None:
    desk = Desk(Places(tmp_path))
    words = NeedCommand(verb="examine", model="bundled/duet", text="--out /etc").answer(desk)["words"]
    command = read(words)
    assert isinstance(command, Examine)
    assert (command.text, command.estimate, Path(command.source).name) == ("--out /etc", True, "duet")
    words = NeedCommand(verb="surgery", model="bundled/duet", plan="0 1 1", new_tokens=7).answer(desk)["words"]
    command = read(words)
    assert isinstance(command, Surgery)
    assert (command.plan, command.new_tokens, command.estimate) == ("0 1 1", 7, True)
    with pytest.raises(UnknownName):
        NeedCommand(verb="examine", model="/etc").answer(desk)
