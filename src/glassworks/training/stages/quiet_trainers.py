"""TRL's trainers, kept from talking on the terminal."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

from glassworks.models.quiet import quiet_bars


@contextmanager
def quiet_library() -> Generator[None]:
    """No progress bars of datasets and no word on what TRL calls by an old name, inside the `with`."""
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled

    were_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings(), quiet_bars():
            # TRL asks the library's models by the name that they had before.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            yield
    finally:
        if not were_off:
            enable_progress_bars()
