"""Records of an analysis as a polars frame, with one schema whether there are records or not."""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    import polars as pl


def to_frame(model: type[BaseModel], records: Sequence[BaseModel]) -> "pl.DataFrame":
    """A row a record, and a column a field; a nested record's fields are columns `outer.inner`.

    Lists of records and mappings become lists of structs (a mapping's have the fields key and value). Absent
    is null.
    """
    import polars as pl

    return pl.DataFrame([_row(model, record) for record in records], schema=schema_of(model))


def schema_of(model: type[BaseModel], prefix: str = "") -> "pl.Schema":
    """The columns of `to_frame` with their types."""
    import polars as pl

    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind, column = _without_none(field.annotation), f"{prefix}{field.alias or name}"
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= schema_of(kind, f"{column}.")
        else:
            found[column] = _dtype(kind)
    return pl.Schema(found)


def _row(model: type[BaseModel], record: BaseModel | None, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind, column = _without_none(field.annotation), f"{prefix}{field.alias or name}"
        value = None if record is None else getattr(record, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _row(kind, value, f"{column}.")
        else:
            found[column] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _row(type(value), value)
    if isinstance(value, Mapping):
        return [{"key": key, "value": each} for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007
    return annotation


def _dtype(kind: Any) -> Any:
    import polars as pl

    origin, inner = get_origin(kind), get_args(kind)
    scalars: dict[Any, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}
    if kind in scalars:
        return scalars[kind]
    if origin is Literal:
        return _dtype(type(inner[0]))
    if origin is tuple:
        first = _without_none(inner[0])
        if isinstance(first, type) and issubclass(first, BaseModel):
            return pl.List(pl.Struct(dict(schema_of(first))))
        return pl.List(_dtype(first))
    if origin is dict:
        return pl.List(pl.Struct({"key": pl.String, "value": _dtype(inner[1])}))
    raise TypeError(f"no column type for {kind!r}")
