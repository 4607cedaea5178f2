"""Sites: the typed addresses of tensors in any transformer, in our spelling and in TransformerLens's."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, cast

from glassworks.anatomy.places import Anatomy, LayerPlaces, Tap
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import Text, say

GLOBAL_PARTS = ("embed", "positions", "norm.out", "logits")
STREAM_PARTS = (
    "in",
    "mixer.in",
    "mixer.out",
    "mid",
    "cross.in",
    "cross.out",
    "cross.mid",
    "feedforward.in",
    "feedforward.pre",
    "feedforward.post",
    "feedforward.out",
    "out",
)
_INSIDE = ("q", "k", "v", "scores", "pattern", "z")
ATTENTION_PARTS = (*(f"mixer.{part}" for part in _INSIDE), *(f"cross.{part}" for part in _INSIDE))
LAYER_PARTS = (*STREAM_PARTS, *ATTENTION_PARTS)
ENCODER = "encoder"

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
    "cross.in": ("cross_attn.hook_in", "cross_attn_in"),
    "cross.out": ("hook_cross_attn_out", "cross_attn.hook_out", "cross_attn_out"),
    "cross.mid": ("hook_resid_mid_cross", "resid_mid_cross"),
    **{f"cross.{part}": (f"cross_attn.hook_{part}", f"cross_{part}") for part in ("q", "k", "v", "pattern", "z")},
    "cross.scores": ("cross_attn.hook_attn_scores", "cross_scores"),
    "feedforward.in": ("mlp.hook_in", "hook_mlp_in", "ln2.hook_normalized", "mlp_in"),
    "feedforward.out": ("hook_mlp_out", "mlp.hook_out", "mlp_out"),
    "feedforward.pre": ("mlp.hook_pre", "pre", "mlp_pre"),
    "feedforward.post": ("mlp.hook_post", "post", "mlp_post", "mlp"),
}
_PART_OF_ALIAS = {alias: part for part, aliases in _LAYER_ALIASES.items() for alias in aliases}
_GLOBAL_OF_ALIAS = {alias: part for part, aliases in _GLOBAL_ALIASES.items() for alias in aliases}
# Either stack of an encoder-decoder may be named; TransformerLens leaves `blocks` out there.
_LAYERED = re.compile(r"^(?:(?:(encoder|decoder)\.)?(?:layers|blocks)|(encoder|decoder))\.(-?\d+)\.(.+)$")

_IN_ORDER = (
    "in",
    "mixer.in",
    *ATTENTION_PARTS[:6],
    "mixer.out",
    "mid",
    "cross.in",
    *ATTENTION_PARTS[6:],
    "cross.out",
    "cross.mid",
    "feedforward.in",
    "feedforward.pre",
    "feedforward.post",
    "feedforward.out",
    "out",
)

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
    norms). The cross.* sites are a decoder's attention to the source, whose positions are its keys; `stack` is
    "encoder" for the sites of an encoder-decoder's encoder.
    """

    part: str
    layer: int | None = None
    tap: Tap | None = None
    stack: Literal["", "encoder"] = ""

    @property
    def name(self) -> str:
        """The canonical spelling, e.g. layers.3.mixer.out; a raw module path stays as it is."""
        if self.tap is not None:
            return self.tap.path if self.tap.side == "out" else f"{self.tap.path}.in"
        name = self.part if self.layer is None else f"layers.{self.layer}.{self.part}"
        return f"{self.stack}.{name}" if self.stack else name

    @property
    def spellings(self) -> tuple[str, ...]:
        """All full names of this site, ours first, then TransformerLens's old and new ones."""
        if self.tap is not None:
            return (self.name,)
        before = f"{self.stack}." if self.stack else ""
        if self.layer is None:
            return (self.name, *(f"{before}{alias}" for alias in _GLOBAL_ALIASES[self.part]))
        inside = _LAYER_ALIASES[self.part]
        stacked = [f"{before}{self.layer}.{alias}" for alias in inside] if self.stack else []
        return (self.name, *(f"{before}blocks.{self.layer}.{alias}" for alias in inside), *stacked)

    @property
    def is_attention(self) -> bool:
        """Whether it lies inside an attention call, where no module boundary shows it."""
        return self.part in ATTENTION_PARTS

    @property
    def is_pattern(self) -> bool:
        """Whether it is an attention map."""
        return self.part in ("mixer.pattern", "cross.pattern")

    def places(self, anatomy: Anatomy) -> LayerPlaces:
        """The parts of the layer that the site lies in."""
        assert self.layer is not None, f"{self} lies in no layer"
        if not self.stack:
            return anatomy.layers[self.layer]
        assert anatomy.encoder is not None, f"{self} was checked to exist"
        return anatomy.encoder.layers[self.layer]

    def __str__(self) -> str:
        return self.name


def all_sites(anatomy: Anatomy) -> tuple[Site, ...]:
    """Every site that this model has, in the order of the forward pass; an encoder's come first."""
    own = _sites_of("", anatomy.depth)
    encoder = [] if anatomy.encoder is None else _sites_of(ENCODER, len(anatomy.encoder.layers))
    sites = (*encoder, *own, Site("logits"))
    return tuple(site for site in sites if why_missing(site, anatomy) is None)


def _sites_of(stack: Literal["", "encoder"], depth: int) -> list[Site]:
    def at(part: str, layer: int | None = None) -> Site:
        return Site(part, layer, stack=stack)

    inner = [at(part, layer) for layer in range(depth) for part in _IN_ORDER]
    return [at("embed"), at("positions"), *inner, at("norm.out")]


def residual_sites(anatomy: Anatomy) -> tuple[Site, ...]:
    """The stream before, between and after the parts of every layer."""
    return tuple(s for s in all_sites(anatomy) if s.part in ("in", "mid", "cross.mid", "out"))


def why_missing(site: Site, anatomy: Anatomy) -> Text | None:
    """The reason why the model has no such site, or None when it has."""
    if site.stack and anatomy.encoder is None:
        return say("the model has one stack of layers, no encoder beside it")
    if site.tap is not None or site.part in ("in", "out"):
        return None
    outside = anatomy if anatomy.encoder is None or not site.stack else anatomy.encoder
    match site.part:
        case "embed":
            return None
        case "positions":
            return None if outside.positions else say("no position embedding was seen before layer 0")
        case "norm.out":
            return None if outside.norm else say("no norm was seen between the last layer and the logits")
        case "logits":
            return None if anatomy.head or anatomy.tied_head else say("the model has no head")
        case part:
            places = site.places(anatomy)
            known = site.is_attention or part in places.taps
            return places.missing.get(part, None if known else say("it was not seen"))


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
    half = {"attn": "mixer", "mixer": "mixer", "mlp": "feedforward", "feedforward": "feedforward", "cross": "cross"}
    kind = next((half[p] for p in given[1:] if isinstance(p, str) and p in half), None)
    if kind is not None and f"{kind}.{name}" in _LAYER_ALIASES:
        part = f"{kind}.{name}"
    return None if part is None else _in_layer(part, layer, "encoder" if ENCODER in given else "", anatomy)


def _from_text(name: str, anatomy: Anatomy, modules: Collection[str]) -> Site | None:
    first, _, after = name.partition(".")
    stack = "encoder" if first == ENCODER else ""
    rest = after if first in (ENCODER, "decoder") and anatomy.encoder is not None else name
    if rest in GLOBAL_PARTS:
        return Site(rest, stack=stack)
    if name in modules:
        return Site("module", None, Tap("out", name))
    if rest in _GLOBAL_OF_ALIAS:
        return Site(_GLOBAL_OF_ALIAS[rest], stack=stack)
    layered = _LAYERED.match(name)
    if layered is not None:
        part = layered[4] if layered[4] in _LAYER_ALIASES else _PART_OF_ALIAS.get(layered[4])
        if part is not None:
            return _in_layer(part, int(layered[3]), "encoder" if ENCODER in layered.group(1, 2) else "", anatomy)
    path, _, side = name.rpartition(".")
    if side in ("in", "out") and path in modules:
        return Site("module", None, Tap("in" if side == "in" else "out", path))
    return None


def _in_layer(part: str, number: int, stack: Literal["", "encoder"], anatomy: Anatomy) -> Site:
    depth = len(anatomy.encoder.layers) if stack and anatomy.encoder is not None else anatomy.depth
    layer = number + depth if number < 0 else number
    if not 0 <= layer < depth:
        raise InvalidInput(
            say("there is no layer {layer}", layer=number),
            given=f"{stack}.layers.{number}.{part}" if stack else f"layers.{number}.{part}",
            right=say("0 to {last}; layers count from 0", last=depth - 1),
        )
    return Site(part, layer, stack=stack)


def _known_names(anatomy: Anatomy) -> list[str]:
    return [spelling for site in all_sites(anatomy) for spelling in site.spellings[:2]]


def _shown(given: SiteName) -> str:
    return given if isinstance(given, str) else ", ".join(str(part) for part in given)
