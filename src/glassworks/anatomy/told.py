"""What the libraries of tokenizers and models raise over a stranger's files, told as one clear error."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.reading import has_half_characters
from glassworks.core.text import say

# The compiled part of the tokenizer library ends so where its own assumptions fail; it is no Exception.
PANIC = "PanicException"


@contextmanager
def spelling(text: str = "") -> Generator[None]:
    """Inside the `with` a text is given to a tokenizer. Raises InvalidInput for half a character and where it fails."""
    if has_half_characters(text):
        raise InvalidInput(
            say("the text holds half a character"),
            given=text.encode("ascii", errors="backslashreplace").decode(),
            right=say("a text in UTF-8"),
        )
    try:
        yield
    except BaseException as problem:
        # The library raises the bare class itself, and it alone.
        if type(problem) is not Exception and type(problem).__name__ != PANIC:
            raise
        raise InvalidInput(
            say("the model's tokenizer cannot spell this text: {reason}", reason=str(problem).partition("\n")[0]),
            given=text or None,
            right=say("a text of its vocabulary, or token ids"),
        ) from None


def greedily(own: Callable[..., Tensor], **options: Any) -> Tensor:
    """What a model's own `generate` writes at temperature 0. Raises InvalidInput where its habits cannot be followed."""
    try:
        return own(do_sample=False, num_beams=1, **options)
    except (TypeError, ValueError, ImportError) as problem:
        # generation_config.json is anyone's file, and the library first looks at it here.
        raise InvalidInput(
            say("this model's own generate fails: {reason}", reason=str(problem).partition("\n")[0]),
            right=say("a generation_config.json that this transformers version can follow, or none"),
        ) from None
