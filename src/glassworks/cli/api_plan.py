"""Planning from Python: gw.plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassworks.cli.plan import Plans


def plan(
    *,
    flops: int | float | str | None = None,
    gpu_hours: int | float | str | None = None,
    parameters: int | float | str | None = None,
    tokens: int | float | str | None = None,
    constants: str = "besiroglu",
    out: str | Path = ".",
    **machines: int | float | str,
) -> Plans:
    """How to split a budget between size and data, under both published laws and that of the newest scaling run below `out`.

    `machines` are gpu, gpus, utilisation and inference_tokens, as `glassworks plan` has them. Raises InvalidInput, UnknownName, or
    NotFound for constants="ours" without a run.
    """
    from glassworks.cli.plan import plans_of, request_of

    given = {"flops": flops, "gpu_hours": gpu_hours, "parameters": parameters, "tokens": tokens}
    return plans_of(request_of(given | machines), constants, Path(out))
