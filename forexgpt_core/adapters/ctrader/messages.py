"""The message classes of cTrader's own package, loaded without the rest of it.

Importing any module of `ctrader_open_api` runs the package's `__init__`, which draws in Twisted and installs its global
reactor: that breaks asyncio and forked workers. The generated message modules need none of it, so they are imported
beneath a stand-in for the package that is taken away again afterwards. The messages of version 0.9.2 are older than
the servers: what they do not know arrives as unknown fields, see `unknown_number`.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from types import ModuleType
from typing import Any, TypeAlias

from forexgpt_core.errors import NotReady

Message: TypeAlias = Any  # generated at run time, so no type checker can know its fields

PACKAGE = "ctrader_open_api"
INSTALL = "pip install --no-deps --require-hashes -r requirements-ctrader.txt"

RETRY_AFTER = 6  # field of ProtoOAErrorRes that 0.9.2 does not know: seconds
HAS_MORE = 7  # field of ProtoOAGetTrendbarsRes that 0.9.2 does not know

_MODULES = ("OpenApiCommonMessages_pb2", "OpenApiMessages_pb2", "OpenApiModelMessages_pb2")
_ENVELOPE = "ProtoMessage"
_lock = Lock()
_loaded: "list[Schema]" = []


@dataclass(frozen=True, slots=True)
class Schema:
    """Every message and enum of the protocol.

    Attributes:
        classes: message class by name, such as ProtoOATraderReq, and those that messages are made of.
        by_type: message class by payload type.
        model: the module that holds the enums.
    """

    classes: dict[str, type[Message]]
    by_type: dict[int, type[Message]]
    model: Any

    def make(self, name: str, **fields: object) -> Message:
        """Return a message of this name."""
        return self.classes[name](**fields)

    def payload_type(self, name: str) -> int:
        """Return the number that says in an envelope what it holds.

        >>> schema().payload_type("ProtoOAGetTrendbarsReq")
        2137
        """
        return int(self.classes[name]().payloadType)

    def name_of(self, payload_type: int) -> str:
        """Return the name of a payload type, or its number where 0.9.2 has none."""
        known = self.by_type.get(payload_type)
        return str(payload_type) if known is None else str(known.DESCRIPTOR.name)


def schema() -> Schema:
    """Return the protocol, loaded once per process.

    Raises:
        NotReady: the package is not installed, or does not fit the installed protobuf.
    """
    with _lock:
        if not _loaded:
            _loaded.append(_load())
        return _loaded[0]


def unknown_number(message: Message, field: int) -> int | None:
    """Return a whole number sent in a field that 0.9.2 does not know; None where it was not sent."""
    unknown = import_module("google.protobuf.unknown_fields").UnknownFieldSet(message)
    found = [entry.data for entry in unknown if entry.field_number == field and entry.wire_type == 0]
    return int(found[-1]) if found else None


def _load() -> Schema:
    folders = _folders()
    missing = PACKAGE not in sys.modules
    if missing:
        stand_in = ModuleType(PACKAGE)
        stand_in.__path__ = folders
        sys.modules[PACKAGE] = stand_in
    try:
        common, requests, model = (import_module(f"{PACKAGE}.messages.{name}") for name in _MODULES)
    except Exception as error:  # protobuf raises what it likes when generated code does not fit it
        raise NotReady(
            f"the messages of ctrader-open-api do not load ({type(error).__name__}: {error}); install it with"
            f" '{INSTALL}' and protobuf as pinned in constraints.txt"
        ) from error
    finally:
        if missing:
            del sys.modules[PACKAGE]
    classes = {
        name: getattr(module, name)
        for module in (common, requests, model)
        for name in module.DESCRIPTOR.message_types_by_name
    }
    carried = (c for n, c in classes.items() if n != _ENVELOPE and "payloadType" in c.DESCRIPTOR.fields_by_name)
    return Schema(classes=classes, by_type={int(c().payloadType): c for c in carried}, model=model)


def _folders() -> list[str]:
    already = sys.modules.get(PACKAGE)
    if already is not None:
        return list(already.__path__)
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise NotReady(f"cTrader needs the package ctrader-open-api, which is not installed: '{INSTALL}'")
    return folders
