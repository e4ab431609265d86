"""Immutable folders named by their content, and nothing of them read before the content is proven."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from forexgpt_core.errors import BadInput, BundleError, UnknownName
from forexgpt_core.models.files import read_json, write_json

MANIFEST, METADATA, PARENTS = "MANIFEST.sha256", "metadata.json", "parents.json"
MAX_FILE_BYTES, MAX_FILES = 1 << 30, 1000

_PARTS = {
    "symbol": re.compile(r"[A-Z]{6}"),
    "timeframe": re.compile(r"[A-Z][0-9]{1,2}"),
    "kind": re.compile(r"[a-z][a-z0-9_]{0,63}"),
    "hash": re.compile(r"[0-9a-f]{12}"),
}
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9_.\-]*)")
_UNFINISHED_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified folder {root}/{symbol}/{timeframe}/{kind}/{hash12}."""

    symbol: str
    timeframe: str
    kind: str
    hash12: str
    path: Path

    def read_json(self, name: str) -> dict[str, object]:
        """Return the JSON object in one of the bundle's files."""
        return read_json(self.path / name)

    @property
    def reference(self) -> dict[str, str]:
        """Return what another bundle writes down to name this one."""
        return {"symbol": self.symbol, "timeframe": self.timeframe, "kind": self.kind, "hash12": self.hash12}


class BundleStore:
    """All bundles below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(
        self,
        symbol: str,
        timeframe: str,
        kind: str,
        fill: Callable[[Path], None],
        *,
        metadata: Mapping[str, object],
        parents: tuple[Bundle, ...] = (),
    ) -> Bundle:
        """Return the bundle of what `fill` puts into an empty folder; the same content is the same bundle.

        Args:
            fill: writes plain files, no folders and no links.
            metadata: facts about the making (versions, ranges, hardware), outside the hash.
            parents: bundles this one cannot be used without; `prune` keeps them with it.

        Raises:
            BundleError: `fill` wrote something a bundle cannot hold.
        """
        home = self._kind_folder(symbol, timeframe, kind)
        home.mkdir(parents=True, exist_ok=True)
        working = Path(tempfile.mkdtemp(prefix=".writing-", dir=home))
        try:
            fill(working)
            if parents:
                write_json(working / PARENTS, {"parents": [parent.reference for parent in parents]})
            manifest = _manifest(working)
            (working / MANIFEST).write_bytes(manifest)
            (working / METADATA).write_text(json.dumps(dict(metadata), indent=1, sort_keys=True, default=str))
            hash12 = _digest(manifest)[:12]
            _flush(working)
            self._publish(working, home / hash12)
        finally:
            shutil.rmtree(working, ignore_errors=True)
        return self.open(symbol, timeframe, kind, hash12)

    def open(self, symbol: str, timeframe: str, kind: str, hash12: str) -> Bundle:
        """Return a bundle whose every file was just compared with the manifest, and the manifest with the name.

        Raises:
            BundleError: there is none, or a file is missing, altered, too large or does not belong.
        """
        path = self._kind_folder(symbol, timeframe, kind) / _checked("hash", hash12)
        if not path.is_dir() or path.is_symlink():
            raise BundleError(f"there is no bundle {symbol}/{timeframe}/{kind}/{hash12}; train that model again")
        _verify(path)
        return Bundle(symbol=symbol, timeframe=timeframe, kind=kind, hash12=hash12, path=path)

    def find(self, hash12: str) -> Bundle:
        """Return the bundle of that hash, wherever it stands.

        Raises:
            BundleError: there is none.
        """
        _checked("hash", hash12)
        for bundle in self.all():
            if bundle.hash12 == hash12:
                return self.open(bundle.symbol, bundle.timeframe, bundle.kind, hash12)
        raise BundleError(f"there is no bundle {hash12}")

    def prune(self, keep: int = 5, protected: Set[str] = frozenset()) -> list[str]:
        """Remove old bundles and return their hashes.

        The newest `keep` of each (symbol, timeframe, kind) stay, what `protected` names stays, and so does every
        bundle that one of these was made from.
        """
        if keep < 1:
            raise BadInput(f"keep must be at least 1, was {keep}")
        bundles = list(self.all())
        kept = {b.path for b in bundles if b.hash12 in protected}
        for home in {b.path.parent for b in bundles}:
            folders = [b.path for b in bundles if b.path.parent == home]
            kept |= set(sorted(folders, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)[:keep])
        kept = self._with_parents(kept)
        removed = [bundle for bundle in bundles if bundle.path not in kept]
        for bundle in removed:
            _remove(bundle.path)
        self._remove_unfinished()
        return sorted(bundle.hash12 for bundle in removed)

    def _kind_folder(self, symbol: str, timeframe: str, kind: str) -> Path:
        parts = {"symbol": symbol, "timeframe": timeframe, "kind": kind}
        return self.root.joinpath(*(_checked(part, value) for part, value in parts.items()))

    def _publish(self, working: Path, target: Path) -> None:
        try:
            working.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            os.utime(target)  # the same content written again: it is the newest of its kind once more
        _flush_folder(target.parent)

    def all(self) -> Iterator[Bundle]:
        """Yield every bundle in the order of its path, none of them verified."""
        for path in sorted(self.root.glob("*/*/*/*")):
            symbol, timeframe, kind, hash12 = path.relative_to(self.root).parts
            if _PARTS["hash"].fullmatch(hash12) and path.is_dir():
                yield Bundle(symbol=symbol, timeframe=timeframe, kind=kind, hash12=hash12, path=path)

    def _with_parents(self, paths: set[Path]) -> set[Path]:
        closed: set[Path] = set()
        open_ends = list(paths)
        while open_ends:
            path = open_ends.pop()
            if path in closed or not path.is_dir():
                continue
            closed.add(path)
            for parent in parent_references(path):
                hash12 = _checked("hash", parent.pop("hash12"))
                open_ends.append(self._kind_folder(**parent) / hash12)
        return closed

    def _remove_unfinished(self) -> None:
        for path in self.root.glob("*/*/*/.*"):
            if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def parent_references(folder: Path) -> list[dict[str, str]]:
    """Return the bundles that the one in `folder` was made from, as `Bundle.reference` wrote them."""
    if not (folder / PARENTS).is_file():
        return []
    listed = cast("list[dict[str, object]]", read_json(folder / PARENTS).get("parents"))
    try:
        return [{part: str(one[part]) for part in ("symbol", "timeframe", "kind", "hash12")} for one in listed]
    except (KeyError, TypeError) as error:
        raise BundleError(f"{PARENTS} of {folder.name} does not list bundles") from error


def _checked(part: str, value: str) -> str:
    if not _PARTS[part].fullmatch(value):
        raise UnknownName(f"'{value}' is not a bundle {part}; expected {_PARTS[part].pattern}")
    return value


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _file_digest(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise BundleError(f"{path.name} has {size} bytes; a bundle file holds at most {MAX_FILE_BYTES}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.name not in (MANIFEST, METADATA))
    if len(paths) > MAX_FILES:
        raise BundleError(f"bundle {folder.name} holds {len(paths)} files; at most {MAX_FILES} are allowed")
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"'{path.name}' in bundle {folder.name} is not a plain file")
    return paths


def _manifest(folder: Path) -> bytes:
    lines = [f"{_file_digest(path)}  {path.name}" for path in _content_files(folder)]
    if not lines:
        raise BundleError("a bundle needs at least one file; nothing was written")
    for line in lines:
        if not _LINE.fullmatch(line):
            raise BundleError(f"'{line[66:]}' is not a file name a bundle can hold")
    return ("\n".join(lines) + "\n").encode()


def _verify(folder: Path) -> None:
    listed = _listed(folder)
    found = {path.name: path for path in _content_files(folder)}
    for name in listed.keys() - found.keys():
        raise BundleError(f"bundle {folder.name} lacks its file '{name}'")
    for name in found.keys() - listed.keys():
        raise BundleError(f"bundle {folder.name} holds '{name}', which its manifest does not name")
    for name, digest in listed.items():
        if _file_digest(found[name]) != digest:
            raise BundleError(f"'{name}' in bundle {folder.name} is not what was written: its SHA-256 differs")


def _listed(folder: Path) -> dict[str, str]:
    """Return the manifest as name → SHA-256, after proving that the manifest gives the folder its name."""
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 200 * MAX_FILES:
        raise BundleError(f"bundle {folder.name} lacks a readable '{MANIFEST}'")
    manifest = path.read_bytes()
    if _digest(manifest)[:12] != folder.name:
        raise BundleError(f"'{MANIFEST}' of bundle {folder.name} was altered: it does not give the bundle's name")
    matches = [_LINE.fullmatch(line) for line in manifest.decode(errors="replace").splitlines()]
    if not all(matches):
        raise BundleError(f"'{MANIFEST}' of bundle {folder.name} is malformed")
    return {match[2]: match[1] for match in matches if match}


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    doomed = path.with_name(f".removed-{path.name}")  # renamed first, so nobody opens a half-removed bundle
    path.rename(doomed)
    shutil.rmtree(doomed)
