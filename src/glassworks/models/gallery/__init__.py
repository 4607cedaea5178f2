"""Models that have a name here: what they are, where to have them, and those that are on this machine."""

from glassworks.models.gallery.entries import GALLERY, entry_of
from glassworks.models.gallery.keeping import Kept, get, home, located
from glassworks.models.gallery.kinds import Entry

__all__ = ["GALLERY", "Entry", "Kept", "entry_of", "get", "home", "located"]
