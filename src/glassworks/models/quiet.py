"""Keeping the library's own progress bars and asides off the terminal, where ours is."""

import logging as standard_logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet_bars() -> Generator[None]:
    """No bars of transformers inside the `with`; the person's own setting is put back afterwards."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class _Others(standard_logging.Filter):
    """Lets every record pass but those that are known."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        super().__init__()
        self._is_known = is_known

    def filter(self, record: standard_logging.LogRecord) -> bool:
        return not self._is_known(str(record.msg))


@contextmanager
def no_word_about_ties() -> Generator[None]:
    """Keeps back one warning inside the `with`: that a head of its own is not tied to the embedding.

    T5's config says "tied" for every checkpoint, and the library then does the right thing with a long remark.
    """
    with _without("transformers.modeling_utils", lambda words: words.startswith("The tied weights mapping")):
        yield


@contextmanager
def no_word_about_gates() -> Generator[None]:
    """Keeps back the report of weights that the library does not know, inside the `with`, where all are gates of ours."""
    with _without("transformers.modeling_utils", _tells_of_gates_only):
        yield


@contextmanager
def no_word_about_length() -> Generator[None]:
    """Keeps back the warning about a context's end inside the `with`: a memory of fixed size has none."""
    name = "transformers.generation.stopping_criteria"
    with _without(name, lambda words: words.startswith("This is a friendly reminder")):
        yield


def _tells_of_gates_only(words: str) -> bool:
    rows = [line for line in words.splitlines() if "|" in line and "Status" not in line]
    return "LOAD REPORT" in words and bool(rows) and all(".infini." in row for row in rows)


@contextmanager
def _without(name: str, is_known: Callable[[str], bool]) -> Generator[None]:
    logger, others = logging.get_logger(name), _Others(is_known)
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
