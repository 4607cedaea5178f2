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
    with _without("transformers.modeling_utils", lambda words: "tied weights mapping" in words):
        yield


@contextmanager
def no_report() -> Generator[None]:
    """Keeps back the library's table of weights that are missing, left over or of another shape, inside the `with`.

    It is told in words of ours, and the table would write names of a stranger's file to the terminal as they are.
    """
    with _without("transformers.modeling_utils", lambda words: "LOAD REPORT" in words):
        yield


@contextmanager
def no_word_about_length() -> Generator[None]:
    """Keeps back the warning about a context's end inside the `with`: a memory of fixed size has none."""
    name = "transformers.generation.stopping_criteria"
    with _without(name, lambda words: words.startswith("This is a friendly reminder")):
        yield


@contextmanager
def no_word_about_offloading() -> Generator[None]:
    """Keeps back the remark that offloaded weights are on the meta device, inside the `with`: the person asked for it."""
    with _without("accelerate.big_modeling", lambda words: words.startswith("Some parameters are on the meta device")):
        yield


def no_word_about_rounding() -> None:
    """Keeps back, for good, what bitsandbytes says at every product: that inputs are rounded to sixteen bits."""
    standard_logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(standard_logging.ERROR)
    logger = standard_logging.getLogger("bitsandbytes.autograd._functions")
    if not any(isinstance(one, _Others) for one in logger.filters):
        logger.addFilter(_Others(lambda words: "inputs will be cast" in words))


@contextmanager
def _without(name: str, is_known: Callable[[str], bool]) -> Generator[None]:
    logger, others = logging.get_logger(name), _Others(is_known)
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
