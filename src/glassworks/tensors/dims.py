"""The legend of dimension names in shape strings, e.g. `Float[Tensor, "batch position width"]`.

| name | counts |
|---|---|
| batch | sequences that are independent of each other |
| position | tokens of one sequence, oldest first |
| query, key | positions that ask, positions that are asked |
| head, kv_head | query heads; key-value heads (fewer under grouped-query attention) |
| head_width | numbers per head |
| width | numbers in the residual stream |
| vocabulary | tokens of the alphabet |
| trigger | triggers of one sequence of the bigram world |
| layer | transformer blocks, from 0 |
"""

from jaxtyping import Bool, Float, Int

__all__ = ["Bool", "Float", "Int"]
