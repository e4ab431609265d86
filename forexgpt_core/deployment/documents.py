"""Read settings from plain documents (YAML, JSON): unknown keys and wrong types are refused, with a suggestion."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, TypeVar

import yaml

from forexgpt_core.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def read_yaml(text: str, name: str) -> object:
    """Return a YAML (or JSON) document; a key that stands there twice is refused, as one of the two would be lost.

    Args:
        name: what the document is, for error texts.

    Raises:
        BadInput: it is no YAML, a key repeats, or a value refers to itself.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _require_single_keys(node, name, ())
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f" (line {line + 1})"
        raise BadInput(f"{name}: not valid YAML{at}: {getattr(error, 'problem', None) or error}") from None


def _require_single_keys(node: yaml.Node | None, name: str, above: tuple[yaml.Node | None, ...]) -> None:
    if node is not None and node in above:
        raise BadInput(f"{name}: a value refers to itself (line {node.start_mark.line + 1})")
    within = (*above, node)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise BadInput(
                    f"{name}: the key '{key.value}' stands there twice (line {key.start_mark.line + 1}): keep one"
                )
            seen.add(str(key.value))
            _require_single_keys(value, name, within)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _require_single_keys(value, name, within)


def build(cls: type[T], document: object, name: str, path: str = "") -> T:
    """Return `cls` built from a mapping of its fields; nested dataclasses are built likewise.

    Args:
        name: what the document is, for error texts.
        path: dotted keys that lead to it, empty at the top.

    Raises:
        BadInput: the document is not a mapping, has an unknown key, lacks a required one, or a value has another type.
    """
    if not isinstance(document, Mapping):
        raise BadInput(f"{name} must be a mapping of settings, was {_shown(document)}")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    for key in document:
        if key not in known:
            raise BadInput(f"unknown setting '{path}{key}'{suggestion(str(key), known)}")
    for f in dataclasses.fields(cls):
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in document:
            raise BadInput(f"{name} must have the setting '{path}{f.name}'")
    values = {str(key): _value(hints[str(key)], value, f"{path}{key}") for key, value in document.items()}
    return cls(**values)


def plain(value: object, where: str) -> object:
    """Return `value` as new plain JSON types (tuples become lists).

    Raises:
        BadInput: it holds something JSON cannot carry exactly, such as a date, an infinite number or a non-text key.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _finite(value, where)
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise BadInput(f"keys of '{where}' must be text, found {bad[0]!r}")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    raise BadInput(f"'{where}' must hold text, numbers, true/false, lists or mappings, found {_shown(value)}")


def document_of(settings: "DataclassInstance") -> dict[str, object]:
    """Return a settings dataclass as a plain document, the inverse of `build`."""
    document = plain(dataclasses.asdict(settings), type(settings).__name__)
    assert isinstance(document, dict)
    return document


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of an error line: the nearest known word, or all of them.

    >>> suggestion("bosting", ["forest", "boosting"])
    "; did you mean 'boosting'?"
    """
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names)}"


def _value(hint: object, value: object, where: str) -> object:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _value(arguments[0], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise BadInput(f"unknown '{where}' {_shown(value)}{suggestion(str(value), map(str, arguments))}")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, f"'{where}'", f"{where}.")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise BadInput(f"'{where}' must be a list, was {_shown(value)}")
        return tuple(_value(arguments[0], item, where) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise BadInput(f"'{where}' must be a mapping, was {_shown(value)}")
        return plain(value, where)
    return _scalar(hint, value, where)


def _scalar(hint: object, value: object, where: str) -> object:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str and type(value) is date:
        return value.isoformat()  # YAML reads an unquoted 2018-01-31 as a date
    if hint is float and is_number:
        return _finite(float(typing.cast(float, value)), where)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise BadInput(f"'{where}' must be {words[typing.cast(type, hint)]}, was {_shown(value)}")


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise BadInput(f"'{where}' must be a finite number, was {value}")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
