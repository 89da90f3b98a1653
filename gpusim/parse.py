"""Words of a command line and values of a YAML file as values of a type."""

import dataclasses
import os
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml


class Words(tuple[str, ...]):
    """What stood behind a flag."""


class _Strict(yaml.SafeLoader):
    """Refuses a name that is there twice, of which YAML's own loader takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(name, deep=True) for name, _ in node.value]
        for k, (name, _) in enumerate(node.value):
            if names[k] in names[:k]:
                where = name.start_mark
                said = f"{names[k]!r} is there twice, again in line {where.line + 1}"
                raise yaml.constructor.ConstructorError(None, None, said)
        return super().construct_mapping(node, deep)


def yaml_of(text: str) -> Any:
    """What a YAML text says, plain values alone. Raises yaml.YAMLError for what is none."""
    return yaml.load(text, _Strict)


def flags(argv: Sequence[str]) -> list[tuple[str, Words]]:
    """(name, words behind it) of each flag: --a-b 1 2, --a_b=1, and --no-c as --c false.

    Raises ValueError for a word that stands behind no flag.
    """
    found: list[tuple[str, list[str]]] = []
    for token in argv:
        if token.startswith("--") or token == "-h":
            flag, equals, value = token.lstrip("-").partition("=")
            name = flag.replace("-", "_")
            words = [value] if equals else []
            if name.startswith("no_") and not words:
                name, words = name.removeprefix("no_"), ["false"]
            found.append((name, words))
        elif not found:
            raise ValueError(f"{token}: flags begin with --")
        else:
            found[-1][1].append(token)
    return [(name, Words(words)) for name, words in found]


def fields_of(kind: type) -> dict[str, Any]:
    """Fields of a dataclass and their types."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def typed(value: Any, kind: Any) -> Any:
    """The value in a type: int, float, bool, str, Path, Literal, tuple, mapping, and `| None`.

    Whole numbers may be written 20e6 and 20_000_000. Raises ValueError, saying what is wrong.
    """
    if get_origin(kind) in (Union, types.UnionType):
        (inner,) = (x for x in get_args(kind) if x is not type(None))
        words = isinstance(value, Words) and [w.lower() for w in value] in (["none"], ["null"])
        return None if value is None or words else typed(value, inner)
    if get_origin(kind) is tuple:
        return _tuple(value, get_args(kind))
    if kind is Any:
        return _as_yaml(value)
    if isinstance(value, Words):
        value = "true" if not value and kind is bool else _only(value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{value!r} is none of {', '.join(map(repr, get_args(kind)))}")
        return value
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    if isinstance(value, get_origin(kind) or kind):
        return value
    said = getattr(kind, "__name__", kind)
    raise ValueError(
        f"{value!r}: its type, {said}, cannot be read; say it in full, such as tuple[float, ...]"
    )


def _only(words: Words) -> str:
    if len(words) != 1:
        raise ValueError(f"takes one value, not {' '.join(words) or 'none'}")
    return words[0]


def _tuple(value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, Words | list | tuple):
        raise ValueError(f"takes several values, not {value!r}")
    if isinstance(value, Words):  # 128 128, 128,128 and [128,128]
        value = Words(word for part in value for word in part.strip("[]()").split(",") if word)
    if kinds[1:] == (Ellipsis,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"takes {len(kinds)} values, not {len(value)}")
    inner = [Words([x]) if isinstance(value, Words) else x for x in value]
    return tuple(typed(x, kind) for x, kind in zip(inner, kinds, strict=True))


def _as_yaml(value: Any) -> Any:
    """A value whose type nobody said."""
    if not isinstance(value, Words):
        return tuple(value) if isinstance(value, list) else value
    found = [yaml.safe_load(word) for word in value]
    return tuple(found) if found[1:] else found[0] if found else True


def _bool(value: Any) -> bool:
    known = {"true": True, "yes": True, "false": False, "no": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in known:
        raise ValueError(f"{value!r} is neither true nor false")
    return known[str(value).lower()]


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(f"{value} is not a number")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None


def _int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    number = _float(value)
    if number != number // 1:
        raise ValueError(f"{value} is not a whole number")
    return int(number) if not isinstance(value, int) else value


def _path(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError(f"{value!r} is not a path")
    return Path(value)


_SCALARS = {bool: _bool, int: _int, float: _float, str: str, Path: _path}
