"""transformers' own loading, with its failures told in one sentence each."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from glassworks.core.errors import BrokenFile, GlassworksError, InvalidInput, NotFound, nearest
from glassworks.core.text import Text, say
from glassworks.models.fitting import check_loaded, check_size, notes_on_unused
from glassworks.models.folders import Held
from glassworks.models.gallery import GALLERY
from glassworks.models.infinify import SETTINGS, restored
from glassworks.models.placement import Placement
from glassworks.models.quiet import (
    no_report,
    no_word_about_offloading,
    no_word_about_rounding,
    no_word_about_ties,
    quiet_bars,
)
from glassworks.models.taming import tamed


@dataclass(frozen=True)
class Wanted:
    """How a pretrained model shall be loaded."""

    dtype: torch.dtype
    device: torch.device
    revision: str | None = None
    trust_remote_code: bool = False
    placement: Placement = field(default_factory=Placement)

    @property
    def address(self) -> dict[str, Any]:
        """What every call of the library is told."""
        return {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}


@dataclass(frozen=True)
class Read:
    """A model as it was read, and what its reader must know of that."""

    model: Any
    notes: tuple[Text, ...] = ()


def pretrained(source: str, wanted: Wanted, held: Held | None = None) -> Read:
    """The model of a folder or hub name, safetensors only, ready to be read; missing weights are an error.

    With what the weight files hold, a config that does not fit them is refused before anything is made by it.
    """
    with told(source):
        config = AutoConfig.from_pretrained(source, **wanted.address)
        quantised = quantisation(config)
    if quantised:
        wanted = replace(wanted, placement=as_packed(source, quantised, wanted.placement))
    if wanted.placement.bits is not None:
        no_word_about_rounding()
    options = wanted.placement.options(wanted.device)
    if quantised:
        # The folder says it itself, and the library warns where it is told twice.
        options.pop("quantization_config", None)
    kind = auto_class(config)
    if held is not None:
        check_size(source, config, kind, held, {"trust_remote_code": wanted.trust_remote_code})
    with told(source), quiet_bars(), no_word_about_ties(), no_report(), no_word_about_offloading():
        found, report = kind.from_pretrained(
            source,
            config=config,
            dtype=wanted.dtype,
            use_safetensors=True,
            output_loading_info=True,
            **options,
            **wanted.address,
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise BrokenFile(
            say(
                "{source} lacks {count} weights of its model, such as {name}",
                source=source,
                count=len(missing),
                name=missing[0],
            ),
            right=say("a complete checkpoint; nothing was filled in at random"),
        )
    unused = [name for name in sorted(report["unexpected_keys"]) if ".infini." not in name]
    if held is not None and wanted.placement.bits is None:
        check_loaded(source, found, held, unused)
    if not wanted.placement.is_plain:
        refuse_memory(found, source)
        return Read(found.eval(), notes_on_unused(unused))
    with told(source):
        model: Any = restored(found.eval(), source, revision=wanted.revision or "main")
    return Read(model.to(wanted.device).eval(), notes_on_unused(unused))


def pretrained_tokenizer(source: str, wanted: Wanted) -> Any:
    """The tokenizer of a folder or hub name; NotFound where a hub gives none, InvalidInput for one that is not whole."""
    try:
        with quiet_bars():
            return tamed(AutoTokenizer.from_pretrained(source, **wanted.address))
    except MemoryError:
        raise
    except Exception as problem:  # its files are anyone's, and the library fails wherever it first needs what they lack
        if not Path(source).is_dir() or _brings_code(problem):
            raise _explained(source, problem) from None
        raise InvalidInput(
            say("the tokenizer of {source} cannot be read: {reason}", source=source, reason=_reason(problem)),
            right=say(
                "tokenizer.json as save_pretrained writes it, or no tokenizer at all: then prompts are token ids"
            ),
        ) from None


def quantisation(config: Any) -> dict[str, Any]:
    """How the weights beside a config are packed; empty where they are not."""
    return dict(config.to_dict().get("quantization_config") or {})


def as_packed(source: str, quantised: dict[str, Any], placement: Placement) -> Placement:
    """The placement of weights that are packed already; raises InvalidInput unless it is in eight bits."""
    if not quantised.get("load_in_8bit"):
        raise packed(source, str(quantised.get("quant_method", "?")))
    return replace(placement, bits=8)


def refuse_memory(model: Any, source: str) -> None:
    """Raises InvalidInput for a model with Infini-attention: its gates and memories are made on one device."""
    if model.config.to_dict().get(SETTINGS) is not None:
        raise InvalidInput(
            say("{source} has a memory of fixed size, which is made for one device and all bits", source=source),
            right=say("no --device-map, --offload, --max-memory or --bits"),
        )


def packed(source: str, method: str) -> InvalidInput:
    """The refusal of quantised weights, whose layers cannot be read, edited or run again exactly."""
    return InvalidInput(
        say(
            "the weights of {source} are quantised ({method}): its layers are packed numbers",
            source=source,
            method=method,
        ),
        right=say("the checkpoint before quantising, or a copy whose weights were turned back into floats"),
        next_command="glassworks models list",
    )


def auto_class(config: Any) -> Any:
    """The class with the head that the checkpoint was saved with; a language model where it does not say."""
    match config.architectures:
        case [str(name), *_]:
            pass
        case _:
            name = "ForCausalLM"
    for ending, kind in (
        (("ForCausalLM", "LMHeadModel"), AutoModelForCausalLM),
        (("ForMaskedLM", "ForPreTraining"), AutoModelForMaskedLM),
        (("ForConditionalGeneration", "ForSeq2SeqLM"), AutoModelForSeq2SeqLM),
        (("GlassworksForSequenceClassification",), AutoModelForSequenceClassification),
    ):
        if name.endswith(ending):
            return kind
    return AutoModel


@contextmanager
def told(source: str) -> Generator[None]:
    """Turns what the library raises while it reads a model into one sentence each."""
    try:
        yield
    except GlassworksError as problem:
        raise BrokenFile(
            say("the config of {source} is impossible: {reason}", source=source, reason=problem.what),
            given=problem.given,
            right=problem.right,
        ) from None
    except (SafetensorError, RuntimeError) as problem:
        raise BrokenFile(
            say(
                "the weights of {source} do not fit its config: {reason}",
                source=source,
                reason=_first_line(problem),
            )
        ) from None
    except (OSError, ValueError, KeyError, ImportError) as problem:
        raise _explained(source, problem) from None
    except MemoryError:
        raise
    except Exception as problem:
        # A config is anyone's file: the library meets a wrong type or a zero wherever it first computes with it.
        raise BrokenFile(
            say("the config of {source} is impossible: {reason}", source=source, reason=_reason(problem)),
            right=say("a folder saved by save_pretrained, of a kind that this transformers version knows"),
        ) from None


def _explained(source: str, problem: Exception) -> GlassworksError:
    reason = _first_line(problem)
    if _brings_code(problem):
        return InvalidInput(
            say("{source} brings its own program code, which is not run unless you ask for it", source=source),
            right=say("trust_remote_code=True, if you have read that code and trust it"),
        )
    if "device_map" in reason:
        return InvalidInput(
            say("the device map does not fit {source}: {reason}", source=source, reason=reason),
            right=say("for example {example}", example='{"model.layers": "disk", "": "cpu"}'),
        )
    if Path(source).is_dir():
        return InvalidInput(
            say("transformers cannot load {source}: {reason}", source=source, reason=reason),
            right=say("a folder saved by save_pretrained, of a kind that this transformers version knows"),
        )
    close = nearest(source.lower(), GALLERY)
    return NotFound(
        say("no model {source}: there is no such folder here, and the hub gave none", source=source),
        given=reason,
        right=say("an existing folder, or the full name of a model with safetensors on a hub that can be reached")
        if close is None
        else say(
            "{nearest} (nearest in the gallery), an existing folder, or the full name of a model on the hub",
            nearest=close,
        ),
        next_command="glassworks doctor" if close is None else "glassworks models list",
    )


def _brings_code(problem: Exception) -> bool:
    return "trust_remote_code" in str(problem) or "custom code" in str(problem)


def _reason(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {' '.join(lines[:2])}"


def _first_line(problem: Exception) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
