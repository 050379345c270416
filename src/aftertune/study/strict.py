"""What all parts of a study file share: strictness, names, and values that may be written in two ways."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
# Of a hub: a branch or a tag can move, and a short hash can be made to meet another.
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
# Prices in US dollars per million tokens, [prompt, answer]; none: the cost is not counted.
_Price = Annotated[float, Field(ge=0)]
Prices = Annotated[tuple[_Price, ...], Field(strict=False, min_length=2, max_length=2)] | None


class Strict(BaseModel):
    """Frozen data in which an unknown key, another type and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# Where a value may be written in two ways, its shape says which is meant (`Discriminator`), so that errors
# speak of that one; a tag "<or …>" names the other.
def is_tag(part: str | int) -> bool:
    """Whether a part of an error's location is such a tag, and no key of the study file."""
    return isinstance(part, str) and part.startswith("<")
