"""Keeping the library's own progress bars off the terminal, where ours is."""

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
