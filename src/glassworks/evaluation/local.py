"""Local files turned into the fields of the published data sets, so that the harness's own definitions fit them.

The JSON Lines of llm-foundry (`query`, `choices`, `gold` or `context`, `continuation`) keep the text, not the fields: each
function here finds the fields again, and the harness writes the prompt as it always does.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from glassworks.core.errors import BrokenFile
from glassworks.core.text import Text, say
from glassworks.evaluation.data import read_lines, read_text

Row = dict[str, Any]
Splits = Mapping[str, list[Row]]

BLIMP = "blimp_"
_BLIMP_FILE = "BLiMP.zip"


@dataclass(frozen=True)
class Local:
    """How local files become the data of a task.

    `definition` is the harness's own file, below its `tasks`; a mapping defines a task that it does not have. `splits`
    takes the paths of `files`, in order.
    """

    definition: str | Mapping[str, Any]
    files: tuple[str, ...]
    splits: Callable[..., Splits]
    notes: tuple[Text, ...] = ()


def local_task(name: str) -> Local | None:
    """How this task is made from local files; None for one that only the hub has."""
    if name.startswith(BLIMP):
        paradigm = name.removeprefix(BLIMP)
        return Local(
            f"blimp/{paradigm}.yaml", (_BLIMP_FILE,), lambda path: {"train": _paradigms(path).get(paradigm, [])}
        )
    return LOCAL.get(name)


def _lettered(row: Row) -> Row:
    """Question and lettered answers, as AI2 publishes them."""
    letters = [chr(ord("A") + place) for place in range(len(row["choices"]))]
    return {"choices": {"text": row["choices"], "label": letters}, "answerKey": letters[row["gold"]]}


def _arc(row: Row) -> Row:
    return {"question": row["query"].removeprefix("Question: ").strip()} | _lettered(row)


def _openbook(row: Row) -> Row:
    return {"question_stem": row["query"]} | _lettered(row)


def _piqa(row: Row) -> Row:
    first, second = row["choices"]
    goal = row["query"].removeprefix("Question: ").removesuffix("\n")
    return {"goal": goal, "sol1": first, "sol2": second, "label": row["gold"]}


def _boolq(row: Row) -> Row:
    passage, _, question = row["query"].removeprefix("Passage: ").rpartition("\nQuestion: ")
    return {"passage": passage, "question": question.removesuffix("?"), "label": row["gold"]}


def _copa(row: Row) -> Row:
    premise, _, connector = row["query"].rpartition(", ")
    first, second = row["choices"]
    asked = {"because": "cause", "therefore": "effect"}[connector]
    return {"premise": f"{premise}.", "question": asked, "choice1": first, "choice2": second, "label": row["gold"]}


def _lambada(row: Row) -> Row:
    return {"text": f"{row['context']} {row['continuation'].strip()}"}


def _winogrande(row: Row) -> Row:
    shared, (first, second) = _apart(*row["context_options"])
    sentence = f"{shared}_ {row['continuation']}"
    return {"sentence": sentence, "option1": first, "option2": second, "answer": str(row["gold"] + 1)}


def _wsc(row: Row) -> Row:
    shared, options = _apart(*row["context_options"])
    text = f"{shared}_ {row['continuation']}"
    return {"text": text, "pronoun": "_", "pronoun_loc": len(shared), "options": options, "label": row["gold"]}


def _apart(first: str, second: str) -> tuple[str, list[str]]:
    """What two texts share at their beginning, in whole words, and the rest of each."""
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    shared = first[: first.rfind(" ", 0, alike) + 1]
    return shared, [first[len(shared) :], second[len(shared) :]]


def _as_it_is(row: Row) -> Row:
    return {name: row[name] for name in ("query", "choices", "gold")}


def _answered(row: Row) -> Row:
    return {"question": row["question"], "answer": row["answer"]}


def _rows(path: Path, fields: Callable[[Row], Row]) -> list[Row]:
    """The rows of a file; raises BrokenFile naming the row whose fields are not as expected."""
    made: list[Row] = []
    for number, row in enumerate(read_lines(path), start=1):
        try:
            made.append(fields(row))
        except (KeyError, ValueError, TypeError, AttributeError, IndexError):
            raise BrokenFile(
                say("row {number} of {path} lacks what the task needs", number=number, path=str(path)),
                given=", ".join(row),
            ) from None
    return made


def _one_split(split: str, fields: Callable[[Row], Row]) -> Callable[[Path], Splits]:
    return lambda path: {split: _rows(path, fields)}


def _paradigms(path: Path) -> dict[str, list[Row]]:
    """The sentence pairs of BLiMP by paradigm, read from its archive."""
    found: dict[str, list[Row]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                inner = Path(name)
                if inner.suffix == ".jsonl" and "__MACOSX" not in inner.parts:
                    lines = archive.read(name).decode("utf-8").splitlines()
                    found[inner.stem] = [_pair(json.loads(line)) for line in lines if line.strip()]
    except (zipfile.BadZipFile, UnicodeDecodeError, ValueError, KeyError) as problem:
        raise BrokenFile(say("{path} is no archive of BLiMP: {reason}", path=str(path), reason=str(problem))) from None
    return found


def _pair(row: Row) -> Row:
    return {name: row[name] for name in ("sentence_good", "sentence_bad")}


def _all_paradigms(path: Path) -> Splits:
    """Every pair, one paradigm after the other in turn, so that the first N have them all alike."""
    found = _paradigms(path)
    longest = max((len(rows) for rows in found.values()), default=0)
    return {"train": [rows[place] for place in range(longest) for rows in found.values() if place < len(rows)]}


def _two_way(right: Path, wrong: Path) -> Splits:
    """Texts with the right and with a wrong ending, line by line; the right one comes first every other time."""
    texts = [read_text(path).strip("\n").split("\n") for path in (right, wrong)]
    if len(texts[0]) != len(texts[1]):
        raise BrokenFile(
            say("{path} does not fit {other} line by line", path=str(right), other=str(wrong)),
            given=" / ".join(str(len(lines)) for lines in texts),
        )
    made: list[Row] = []
    for number, pair in enumerate(zip(*texts, strict=True)):
        shared, endings = _apart(*pair)
        gold = number % 2
        made.append({"query": shared.rstrip(), "choices": endings[::-1] if gold else endings, "gold": gold})
    return {"validation": made}


def _choice_task(**more: Any) -> dict[str, Any]:
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in more.pop("metrics")]
    return {
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": "query",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
        "metric_list": metrics,
    } | more


LOCAL: Mapping[str, Local] = {
    "arc_easy": Local("arc/arc_easy.yaml", ("arc_easy.jsonl",), _one_split("test", _arc)),
    "arc_challenge": Local("arc/arc_challenge.yaml", ("arc_challenge.jsonl",), _one_split("test", _arc)),
    "piqa": Local("piqa/piqa.yaml", ("piqa.jsonl",), _one_split("validation", _piqa)),
    "winogrande": Local("winogrande/default.yaml", ("winogrande.jsonl",), _one_split("validation", _winogrande)),
    "lambada_openai": Local("lambada/lambada_openai.yaml", ("lambada_openai.jsonl",), _one_split("test", _lambada)),
    "boolq": Local("super_glue/boolq/default.yaml", ("boolq.jsonl",), _one_split("validation", _boolq)),
    "copa": Local("super_glue/copa/default.yaml", ("copa.jsonl",), _one_split("validation", _copa)),
    "openbookqa": Local("openbookqa/openbookqa.yaml", ("openbook_qa.jsonl",), _one_split("test", _openbook)),
    "wsc273": Local("wsc273/default.yaml", ("winograd_wsc.jsonl",), _one_split("test", _wsc)),
    "blimp": Local(
        "blimp/_template_yaml",
        (_BLIMP_FILE,),
        _all_paradigms,
        (say("all paradigms of BLiMP in turn, as one task"),),
    ),
    "gsm8k": Local(
        "gsm8k/gsm8k.yaml",
        ("gsm8k/test.jsonl", "gsm8k/train.jsonl"),
        lambda test, train: {"test": _rows(test, _answered), "train": _rows(train, _answered)},
    ),
    "hellaswag_two_way": Local(
        _choice_task(metrics=("acc", "acc_norm")),
        ("hellaswag-800/correct.txt", "hellaswag-800/wrong.txt"),
        _two_way,
        (say("HellaSwag with the right and one wrong ending: chance is 1/2, not 1/4"),),
    ),
    "commonsense_qa_four_way": Local(
        _choice_task(metrics=("acc",)),
        ("commonsense_qa.jsonl",),
        _one_split("validation", _as_it_is),
        (say("the edition of llm-foundry, with fewer choices than the published data set"),),
    ),
    "siqa_two_way": Local(
        _choice_task(metrics=("acc",)),
        ("siqa.jsonl",),
        _one_split("validation", _as_it_is),
        (say("the edition of llm-foundry, with fewer choices than the published data set"),),
    ),
}
"""Tasks that are made from local files, by their names in the harness (the last three are not in it)."""

# Other names by which these tasks are known.
ALIASES: Mapping[str, str] = {
    "lambada": "lambada_openai",
    "openbook_qa": "openbookqa",
    "winograd_wsc": "wsc273",
    "wsc": "wsc273",
    "hellaswag-800": "hellaswag_two_way",
}
