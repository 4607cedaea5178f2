"""What a preset is: the shape of a known model, with the number of parameters that its authors or a library state."""

from dataclasses import dataclass
from typing import Literal

from glassworks.core.text import Text, say
from glassworks.models.counts import Parts, counted
from glassworks.models.spec import EncoderDecoderSpec, EncoderSpec, TransformerSpec

Branch = Literal["encoder", "decoder", "encoder-decoder"]
Shape = TransformerSpec | EncoderSpec | EncoderDecoderSpec

# Papers round to two or three figures, and some leave out embeddings or norms.
ROUNDED = 0.03
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}


@dataclass(frozen=True)
class Preset:
    """A named shape. `parameters` and `parts` are computed from it; what others state stands beside."""

    name: str
    spec: Shape
    published: int | None = None
    """Parameters as the class of the library counts them (`counted_by`); None where only a rounded number is known."""
    stated: str = ""
    """The number in the paper's or model card's own words: 7B, 124M. Empty for shapes of our own."""
    counted_by: str = ""
    """The class of the transformers library that gives `published`."""
    source: str = ""
    """The paper or page that the shape is from."""
    with_head: bool = True
    """Whether the parameters of a masked language model's head are counted; encoders are published without."""
    note: Text | None = None
    """What differs from the original."""

    @property
    def branch(self) -> Branch:
        """The branch of the family tree, which draws prefix decoders beside encoder-decoders (lifecycle.md 1)."""
        return "encoder-decoder" if self.form == "prefix decoder" else self.form

    @property
    def form(self) -> Literal["encoder", "decoder", "prefix decoder", "encoder-decoder"]:
        """What is built."""
        match self.spec:
            case TransformerSpec(reads="prefix"):
                return "prefix decoder"
            case TransformerSpec():
                return "decoder"
            case EncoderSpec():
                return "encoder"
            case EncoderDecoderSpec():
                return "encoder-decoder"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of each stack."""
        match self.spec:
            case EncoderDecoderSpec() as spec:
                return (spec.depth_of_encoder, spec.depth)
            case spec:
                return (spec.depth,)

    @property
    def sizes(self) -> dict[str, int]:
        """Widths, heads, vocabulary and context, by the names of the spec."""
        spec = self.spec
        return {
            "width": spec.width,
            "heads": spec.heads,
            "kv_heads": spec.sizes.kv_heads,
            "head_width": spec.width_of_head,
            "feedforward_width": spec.width_of_feedforward,
            "vocabulary": spec.vocabulary,
            "context": spec.context,
        }

    @property
    def parts(self) -> Parts:
        """Parameters of each part that is counted."""
        return {part: count for part, count in counted(self.spec).items() if self.with_head or part != "head"}

    @property
    def parameters(self) -> int:
        """All parameters that are counted."""
        return sum(self.parts.values())

    @property
    def agrees(self) -> bool | None:
        """Whether the count is the published one, exactly; within 3 % of a rounded number; None where nobody stated one."""
        if self.published is not None:
            return self.parameters == self.published
        if not self.stated:
            return None
        told = float(self.stated[:-1]) * _UNITS[self.stated[-1]]
        return abs(self.parameters - told) <= ROUNDED * told

    @property
    def is_ours(self) -> bool:
        """Whether it is a small shape of our own, in the style of a known one."""
        return not self.stated


def branch_words(branch: str) -> Text:
    """A branch or form in words."""
    words = {
        "encoder": say("encoder"),
        "decoder": say("decoder"),
        "prefix decoder": say("prefix decoder"),
        "encoder-decoder": say("encoder-decoder"),
    }
    return words[branch]
