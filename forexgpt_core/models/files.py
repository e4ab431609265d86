"""JSON and array files of saved models: the same content always gives the same bytes, and nothing is pickled."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BundleError

Arrays = dict[str, NDArray[np.generic]]


def write_json(path: Path, content: object) -> None:
    """Write `content` with sorted keys; floats keep every bit, and what is not finite is refused."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, object]:
    """Return the JSON object in `path`.

    Raises:
        BundleError: the file is missing or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path.name} holds {type(content).__name__}, expected an object")
    return content


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays as a compressed npz; zip entries carry no clock, so equal arrays give equal files."""
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})


def read_arrays(path: Path) -> Arrays:
    """Return every array in an npz file.

    Raises:
        BundleError: the file is missing, is no npz, or holds objects.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path.name} cannot be read as plain arrays: {error}") from error
