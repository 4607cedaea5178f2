"""Keeping the library's own progress bars and asides off the terminal, where ours is."""

import logging as standard_logging
from collections.abc import Generator
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
    """Lets every record pass but the one about a head that is not tied."""

    def filter(self, record: standard_logging.LogRecord) -> bool:
        return not str(record.msg).startswith("The tied weights mapping")


@contextmanager
def no_word_about_ties() -> Generator[None]:
    """Keeps back one warning inside the `with`: that a head of its own is not tied to the embedding.

    T5's config says "tied" for every checkpoint, and the library then does the right thing with a long remark.
    """
    logger, others = logging.get_logger("transformers.modeling_utils"), _Others()
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
