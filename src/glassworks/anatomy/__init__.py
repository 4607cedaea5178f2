"""Any transformer seen alike.

Its parts found by watching it, its tensors read and replaced at named sites.
"""

from glassworks.anatomy.alphabet import Alphabet, legible
from glassworks.anatomy.capture import Activations, capture
from glassworks.anatomy.edits import HookPoint, edited
from glassworks.anatomy.keeping import keep_activations
from glassworks.anatomy.kept import KeptActivations
from glassworks.anatomy.places import Anatomy, CrossPlaces, Encoder, LayerPlaces, Tap, find_anatomy
from glassworks.anatomy.sites import Site, all_sites, choose_sites, parse_site, residual_sites
from glassworks.anatomy.subject import Origin, Subject
from glassworks.anatomy.tokens import TokenBatch

__all__ = [
    "Activations",
    "Alphabet",
    "Anatomy",
    "CrossPlaces",
    "Encoder",
    "HookPoint",
    "KeptActivations",
    "LayerPlaces",
    "Origin",
    "Site",
    "Subject",
    "Tap",
    "TokenBatch",
    "all_sites",
    "capture",
    "choose_sites",
    "edited",
    "find_anatomy",
    "keep_activations",
    "legible",
    "parse_site",
    "residual_sites",
]
