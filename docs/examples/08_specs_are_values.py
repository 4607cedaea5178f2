"""Everything you can choose is a frozen spec: it has a digest, reads JSON back, and says what was wrong."""

from glassworks.core.errors import GlassworksError
from glassworks.evidence.claims import Scale
from glassworks.experiments import Birth

laptop = Birth.at(Scale.LAPTOP)
wider = laptop.replaced_from_text("width=256")

print("width", laptop.width, "->", wider.width)
print("digests", laptop.digest(), wider.digest())
assert laptop.digest() == Birth.at(Scale.LAPTOP).digest() != wider.digest()
assert Birth.parse(wider.to_json()) == wider

for wrong in ("widht=256", "width=wide", "triggers=5"):
    try:
        laptop.replaced_from_text(wrong)
    except GlassworksError as problem:
        print(f"\n--set {wrong}\n{problem}")
