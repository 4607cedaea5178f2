"""Sites: the typed addresses of tensors in any transformer, in our spelling and in TransformerLens's."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from glassworks.anatomy.places import Anatomy, Tap
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import say

GLOBAL_PARTS = ("embed", "positions", "norm.out", "logits")
STREAM_PARTS = (
    "in",
    "mixer.in",
    "mixer.out",
    "mid",
    "feedforward.in",
    "feedforward.pre",
    "feedforward.post",
    "feedforward.out",
    "out",
)
ATTENTION_PARTS = ("mixer.q", "mixer.k", "mixer.v", "mixer.scores", "mixer.pattern", "mixer.z")
LAYER_PARTS = (*STREAM_PARTS, *ATTENTION_PARTS)

# TransformerLens's spellings of our sites; the first of each is the one shown to its users' name filters.
_GLOBAL_ALIASES = {
    "embed": ("hook_embed", "embed.hook_out"),
    "positions": ("hook_pos_embed", "pos_embed", "pos_embed.hook_out"),
    "norm.out": ("ln_final.hook_normalized", "ln_final", "ln_final.hook_out", "norm", "unembed.hook_in"),
    "logits": ("unembed", "unembed.hook_out"),
}
_LAYER_ALIASES = {
    "in": ("hook_resid_pre", "hook_in", "resid_pre"),
    "mid": ("hook_resid_mid", "resid_mid"),
    "out": ("hook_resid_post", "hook_out", "resid_post"),
    "mixer.in": ("attn.hook_in", "hook_attn_in", "ln1.hook_normalized", "attn_in"),
    "mixer.out": ("hook_attn_out", "attn.hook_out", "attn_out"),
    "mixer.q": ("attn.hook_q", "q"),
    "mixer.k": ("attn.hook_k", "k"),
    "mixer.v": ("attn.hook_v", "v"),
    "mixer.z": ("attn.hook_z", "z"),
    "mixer.pattern": ("attn.hook_pattern", "pattern", "attn"),
    "mixer.scores": ("attn.hook_attn_scores", "attn_scores", "scores"),
    "feedforward.in": ("mlp.hook_in", "hook_mlp_in", "ln2.hook_normalized", "mlp_in"),
    "feedforward.out": ("hook_mlp_out", "mlp.hook_out", "mlp_out"),
    "feedforward.pre": ("mlp.hook_pre", "pre", "mlp_pre"),
    "feedforward.post": ("mlp.hook_post", "post", "mlp_post", "mlp"),
}
_PART_OF_ALIAS = {alias: part for part, aliases in _LAYER_ALIASES.items() for alias in aliases}
_GLOBAL_OF_ALIAS = {alias: part for part, aliases in _GLOBAL_ALIASES.items() for alias in aliases}
_LAYERED = re.compile(r"^(?:layers|blocks)\.(-?\d+)\.(.+)$")

# An unknown name is answered with at most this many known ones.
_MOST_NAMED = 5

SiteName = str | tuple[str | int, ...]
NameFilter = SiteName | Sequence[SiteName] | Callable[[str], bool] | None


@dataclass(frozen=True, order=True)
class Site:
    """The address of one tensor.

    Shapes: stream sites (in, mid, out, mixer.in|out, feedforward.in|out, embed, norm.out) [batch, position,
    width]; feedforward.pre|post [batch, position, feedforward width]; mixer.q|z [batch, position, head, head
    width]; mixer.k|v [batch, position, kv head, head width]; mixer.pattern|scores [batch, head, query, key];
    logits [batch, position, vocabulary]. q and k are as they enter the scores (after rotation and their own
    norms).
    """

    part: str
    layer: int | None = None
    tap: Tap | None = None

    @property
    def name(self) -> str:
        """The canonical spelling, e.g. layers.3.mixer.out; a raw module path stays as it is."""
        if self.tap is not None:
            return self.tap.path if self.tap.side == "out" else f"{self.tap.path}.in"
        return self.part if self.layer is None else f"layers.{self.layer}.{self.part}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """All full names of this site, ours first, then TransformerLens's old and new ones."""
        if self.tap is not None:
            return (self.name,)
        if self.layer is None:
            return (self.name, *_GLOBAL_ALIASES[self.part])
        return (self.name, *(f"blocks.{self.layer}.{alias}" for alias in _LAYER_ALIASES[self.part]))

    @property
    def is_attention(self) -> bool:
        """Whether it lies inside an attention call, where no module boundary shows it."""
        return self.part in ATTENTION_PARTS

    def __str__(self) -> str:
        return self.name


def all_sites(anatomy: Anatomy) -> tuple[Site, ...]:
    """Every site that this model has, in the order of the forward pass."""
    early = [Site(part) for part in ("embed", "positions")]
    late = [Site(part) for part in ("norm.out", "logits")]
    inner = [Site(part, layer) for layer in range(anatomy.depth) for part in _in_order()]
    return tuple(site for site in (*early, *inner, *late) if why_missing(site, anatomy) is None)


def residual_sites(anatomy: Anatomy) -> tuple[Site, ...]:
    """The stream before, between and after the halves of every layer."""
    return tuple(s for s in all_sites(anatomy) if s.part in ("in", "mid", "out"))


def why_missing(site: Site, anatomy: Anatomy) -> object | None:
    """The reason (a Text) why the model has no such site, or None when it has."""
    if site.tap is not None or site.part in ("embed", "in", "out"):
        return None
    match site.part:
        case "positions":
            return None if anatomy.positions else say("no position embedding was seen before layer 0")
        case "norm.out":
            return None if anatomy.norm else say("no norm was seen between the last layer and the logits")
        case "logits":
            return None if anatomy.head or anatomy.tied_head else say("the model has no head")
        case _:
            assert site.layer is not None
            return _why_missing_in_layer(site, anatomy)


def _why_missing_in_layer(site: Site, anatomy: Anatomy) -> object | None:
    layer = anatomy.layers[site.layer or 0]
    if not site.is_attention:
        return None if site.part in layer.taps else layer.missing.get(site.part, say("it was not seen"))
    if layer.attention == "none":
        return say("no attention was seen in this layer")
    if site.part == "mixer.scores" and layer.attention == "linear":
        return say("a mixer linear in its values has no scores before a softmax")
    if layer.attention == "packed" and site.part != "mixer.pattern":
        return say("torch.nn.MultiheadAttention hides it")
    return None


def parse_site(given: SiteName, anatomy: Anatomy, modules: Collection[str] = ()) -> Site:
    """The site meant by a name in any spelling, a tuple as ("resid_post", 5), or a module path.

    Layers may count from the end (-1). Raises UnknownName with the nearest name, InvalidInput with the reason
    where the model has no such site. A plain word ("pattern") names no layer, so it is answered with both
    forms that do.
    """
    site = _from_tuple(given, anatomy) if isinstance(given, tuple) else _from_text(given, anatomy, modules)
    if site is None:
        raise _unknown(given, anatomy)
    reason = why_missing(site, anatomy)
    if reason is not None:
        raise InvalidInput(say("{site} is not in this model: {reason}", site=site.name, reason=reason))
    return site


def choose_sites(names: NameFilter, anatomy: Anatomy, modules: Collection[str] = ()) -> tuple[Site, ...]:
    """The sites chosen by a filter: None for all, a name or glob, a list of them, or a test on the name.

    In a glob `*` and `?` stay between two dots (`layers.*.out` is the residual stream alone), `**` crosses
    them, and a `*` that opens the glob stands for any beginning, as in TransformerLens's name filters
    (`*hook_pattern`, `*.mixer.z`). Globs and tests see every spelling, so
    `lambda name: name.endswith("hook_pattern")` works too.
    """
    known = all_sites(anatomy)
    if names is None:
        return known
    if callable(names):
        return tuple(site for site in known if any(names(name) for name in site.spellings))
    chosen: dict[str, Site] = {}
    for name in _as_list(names):
        for site in _matching(name, known, anatomy, modules):
            chosen[site.name] = site
    return tuple(chosen.values())


def _as_list(names: SiteName | Sequence[SiteName]) -> list[SiteName]:
    if isinstance(names, str):
        return [names]
    if isinstance(names, tuple) and _is_short_form(names):
        return [cast(SiteName, names)]
    return [cast(SiteName, name) for name in names]


def _matching(name: SiteName, known: Iterable[Site], anatomy: Anatomy, modules: Collection[str]) -> list[Site]:
    if isinstance(name, str) and any(sign in name for sign in "*?["):
        glob = _glob(name)
        found = [site for site in known if any(glob.fullmatch(spelling) for spelling in site.spellings)]
        if not found:
            raise _unknown(name, anatomy)
        return found
    return [parse_site(name, anatomy, modules)]


def _glob(pattern: str) -> re.Pattern[str]:
    """A name filter as a regular expression; its rules stand in `choose_sites`."""
    pattern = f"*{pattern}" if re.match(r"\*(?!\*)", pattern) else pattern
    signs = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts: list[str] = []
    for part in re.findall(r"\*\*|\[[^\]]+\]|.", pattern):
        if len(part) > 2 and part.startswith("["):
            inside = part[1:-1].replace("\\", "\\\\")
            parts.append(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
        else:
            parts.append(signs.get(part) or re.escape(part))
    return re.compile("".join(parts))


def _unknown(given: SiteName, anatomy: Anatomy) -> UnknownName:
    """The error for a name that is no site: the nearest few, or what a plain word should have been."""
    name = _shown(given)
    known = _known_names(anatomy)
    close = get_close_matches(name, known, n=_MOST_NAMED, cutoff=0.4)
    problem = UnknownName("site", name, close or known[:_MOST_NAMED])
    part = name if name in LAYER_PARTS else _PART_OF_ALIAS.get(name)
    if part is not None and any(site.part == part for site in all_sites(anatomy)):
        pair, every = repr((name, 0)), repr(f"layers.*.{part}")
        problem.right = say("a layer with it: {pair} for layer 0, {every} for all layers", pair=pair, every=every)
    return problem


def _is_short_form(names: tuple[object, ...]) -> bool:
    return len(names) in (2, 3) and isinstance(names[0], str) and isinstance(names[1], int)


def _from_tuple(given: tuple[str | int, ...], anatomy: Anatomy) -> Site | None:
    name = str(given[0])
    layer = next((part for part in given[1:] if isinstance(part, int)), None)
    if layer is None:
        return _from_text(name, anatomy, ())
    part = name if name in _LAYER_ALIASES else _PART_OF_ALIAS.get(name)
    # ("pattern", 5, "attn") and ("pre", 5, "mlp") name the half; ("out", 5, "attn") needs it.
    half = {"attn": "mixer", "mixer": "mixer", "mlp": "feedforward", "feedforward": "feedforward"}
    kind = next((half[p] for p in given[1:] if isinstance(p, str) and p in half), None)
    if kind is not None and f"{kind}.{name}" in _LAYER_ALIASES:
        part = f"{kind}.{name}"
    return None if part is None else Site(part, _layer(layer, anatomy, given))


def _from_text(name: str, anatomy: Anatomy, modules: Collection[str]) -> Site | None:
    if name in GLOBAL_PARTS:
        return Site(name)
    if name in _GLOBAL_OF_ALIAS and name not in modules:
        return Site(_GLOBAL_OF_ALIAS[name])
    found = _LAYERED.match(name)
    if found is not None:
        rest = found.group(2)
        part = rest if rest in _LAYER_ALIASES else _PART_OF_ALIAS.get(rest)
        if part is not None and name not in modules:
            return Site(part, _layer(int(found.group(1)), anatomy, name))
    if name in modules:
        return Site("module", None, Tap("out", name))
    path, _, side = name.rpartition(".")
    if side in ("in", "out") and path in modules:
        return Site("module", None, Tap("in" if side == "in" else "out", path))
    return None


def _layer(number: int, anatomy: Anatomy, given: object) -> int:
    layer = number + anatomy.depth if number < 0 else number
    if not 0 <= layer < anatomy.depth:
        raise InvalidInput(
            say("there is no layer {layer}", layer=number),
            given=given,
            right=say("0 to {last}; layers count from 0", last=anatomy.depth - 1),
        )
    return layer


def _in_order() -> tuple[str, ...]:
    return (
        "in",
        "mixer.in",
        *ATTENTION_PARTS,
        "mixer.out",
        "mid",
        "feedforward.in",
        "feedforward.pre",
        "feedforward.post",
        "feedforward.out",
        "out",
    )


def _known_names(anatomy: Anatomy) -> list[str]:
    return [spelling for site in all_sites(anatomy) for spelling in site.spellings[:2]]


def _shown(given: SiteName) -> str:
    return given if isinstance(given, str) else ", ".join(str(part) for part in given)
