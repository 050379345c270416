"""YAML of strangers: plain values alone, bounded in size, and every fault of it one kind of error."""

from typing import Any

import yaml

_MOST_CHARACTERS = 1_000_000
_MOST_NODES = 200_000  # with what aliases repeat: nine lines of them can stand for a billion


def load_yaml(text: str, loader: type[yaml.SafeLoader]) -> Any:
    """The value of a YAML text.

    Args:
        text: the file's content.
        loader: a safe one: it makes no objects but texts, numbers, truth values, dates, lists and mappings.

    Raises:
        yaml.YAMLError: it is no YAML, names a tag that makes objects, or stands for more than it should.
    """
    if len(text) > _MOST_CHARACTERS:
        raise yaml.YAMLError(f"it is {len(text):,} characters long; at most {_MOST_CHARACTERS:,} are read")
    reader = loader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        _refuse_many(node)
        return reader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deep") from error
    except (ValueError, OverflowError) as error:  # a date or a number that there is not: 2024-13-45
        raise yaml.YAMLError(f"a value in it cannot be: {error}") from error
    finally:
        reader.dispose()


def _refuse_many(root: yaml.Node) -> None:
    """Count nodes as a reader of the value would meet them, each alias as all that it stands for."""
    sizes: dict[int, int | None] = {}  # None: of a node that is being counted

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = None
            sizes[id(node)] = 1 + sum(size(child) for child in _children(node))
        known = sizes[id(node)]
        if known is None:
            raise yaml.YAMLError(f"an alias in it stands for what it is part of:\n{node.start_mark}")
        if known > _MOST_NODES:
            raise yaml.YAMLError(f"its aliases stand for more than {_MOST_NODES:,} values")
        return known

    size(root)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
