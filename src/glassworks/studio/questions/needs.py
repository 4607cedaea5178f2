"""What an examination or an operation will need: the command that foretells it, before the model is opened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk

# What is read where nothing is said yet: as long as the sentence that the pages choose.
SAMPLE = "The old lamp stood by the window. When the wind came, the old lamp stood by the window and did not fall."
_IDS = "1,0,1,0,1,0,1,0"
# Bytes; Linux takes 128 KiB in one word.
_LONGEST_WORD = 120_000


class NeedCommand(Question):
    """The command that foretells memory and time of an examination or an operation; it opens nothing."""

    kind: Literal["need_command"] = "need_command"
    seconds: ClassVar[float] = 90.0
    verb: Literal["examine", "surgery"]
    model: str = Field(max_length=4000)
    """An identifier of the listing."""
    text: str = Field(default="", max_length=100_000)
    """What will be read; a sentence where there is none yet. Of a model without a tokenizer, ids."""
    plan: str = Field(default="", max_length=20_000)
    """Of an operation: the plan; the first layer alone where there is none yet."""
    stack: str = Field(default="", max_length=40)
    new_tokens: int = Field(default=24, ge=1, le=200)
    """Of an operation: tokens that are written."""

    def answer(self, desk: Desk) -> Answer:
        """`words` of the command line, without its program; UnknownName for no model of the listing."""
        from glassworks.models.folders import tokenizer_in

        folder = desk.shelved(self.model).folder
        text = self.text.strip() or SAMPLE
        if self.verb == "surgery":
            words = ["surgery", str(folder), f"--plan={self.plan or '0'}", f"--prompt={text}"]
            words += [f"--new-tokens={self.new_tokens}"]
            words += [f"--stack={self.stack}"] if self.stack else []
        else:
            words = [
                "examine",
                str(folder),
                f"--text={text}" if tokenizer_in(folder) else f"--tokens={_ids(self.text)}",
            ]
        if any("\0" in word or len(word.encode()) > _LONGEST_WORD for word in words):
            raise InvalidInput(say("this cannot be said on a command line"))
        return {"words": [*words, "--estimate"]}


def _ids(text: str) -> str:
    """Ids as the command line takes them; some where the text holds none."""
    found = [part for part in re.split(r"[\s,]+", text.strip()) if part.isdecimal()]
    return ",".join(found) or _IDS


ALL: tuple[type[Question], ...] = (NeedCommand,)
