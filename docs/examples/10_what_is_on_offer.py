"""Everything that can be chosen, room by room, with its knobs; the same list serves the command line."""

import glassworks as gw

for room, kinds in gw.catalog.offer().items():
    print(f"{room}: {', '.join(kinds)}")

softmax = gw.catalog.SHELVES["mixers"]["softmax"]
print(f"\n{softmax.__name__}: {softmax.__doc__}")
for name, knob in softmax.model_fields.items():
    print(f"  {name} = {knob.default!r}: {knob.description or ''}")

assert "birth" in gw.catalog.offer()["experiments"]
