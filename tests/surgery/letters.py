"""A tiny model that reads letters, and a text for it: enough to sweep in a moment."""

from functools import cache
from pathlib import Path

from tests.families import VOCABULARY, tiny

LAYERS = 5
LETTERS = tuple(chr(ord("A") + place) for place in range(VOCABULARY))
TEXT = "".join(LETTERS[(7 * place * place + place) % VOCABULARY] for place in range(150))


def _model(family: str):
    model = tiny(family, layers=LAYERS)
    # Random weights would say the end token soon.
    model.config.eos_token_id = None
    if model.can_generate():
        model.generation_config.eos_token_id = None
    return model


@cache
def lettered(family: str = "llama"):
    """The model as a Subject."""
    from glassworks.anatomy import Alphabet, Subject

    return Subject.of(_model(family), Alphabet(LETTERS))


def lettered_folder(folder: Path, family: str = "llama") -> Path:
    """The model as a folder with its alphabet."""
    from glassworks.core.files import write_json
    from glassworks.models.quiet import quiet_bars

    with quiet_bars():
        _model(family).save_pretrained(folder)
    write_json(folder / "world.json", {"alphabet": list(LETTERS)})
    return folder


def letters_file(folder: Path) -> Path:
    """A text in those letters."""
    path = folder / "letters.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def perplexity(folder: Path) -> str:
    """The benchmark on that text, as it is typed: ten windows."""
    return f"ppl:text_file={letters_file(folder)}:window=16"
