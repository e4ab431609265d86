"""What is installed and published: exact pins, security floors, the licence, and nothing of the maker's machine."""

import os
import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FLOORS = {"protobuf": "6.33.5", "requests": "2.32.4", "pyopenssl": "26", "twisted": "26.4", "mlflow": "3.10"}
NOT_OURS = {  # regular expressions that do not match themselves
    "a folder of the machine it was made on": r"/wo[r]k/|/roo[t]/|/ho[m]e/[a-z]|/Use[r]s/|/tmp/ba[s]h",
    "a package index": r"index-ur[l]|trusted-hos[t]|pypi[.](?:org|io)|pythonhoste[d]|artifactor[y]",
}


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.split("#")[0].strip()]
    exact = [re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;*]+)", line.strip()) for line in lines]
    assert all(exact), [line for line, match in zip(lines, exact, strict=True) if not match]
    found = {canonicalize_name(match[1]): Version(match[2]) for match in exact if match}
    assert len(found) == len(lines), "a package is pinned twice"
    return found


def _declared(project: dict[str, object]) -> list[Requirement]:
    settings = project["project"]
    texts = [
        *settings["dependencies"],
        *(text for extra in settings["optional-dependencies"].values() for text in extra),
    ]
    return [Requirement(text) for text in texts]


def test_every_dependency_and_extra_is_pinned(project: dict[str, object], pins: dict[str, Version]) -> None:
    declared = _declared(project)
    assert len(declared) > 30
    missing = [r.name for r in declared if canonicalize_name(r.name) not in pins]
    assert missing == []
    refused = [str(r) for r in declared if pins[canonicalize_name(r.name)] not in r.specifier]
    assert refused == []


def test_everything_that_comes_along_is_pinned_as_installed(
    project: dict[str, object], pins: dict[str, Version]
) -> None:
    """Walk from what we declare to what that requires, on this platform."""
    settings = project["project"]
    waiting = [
        (Requirement(t), frozenset()) for t in (*settings["dependencies"], *settings["optional-dependencies"]["dev"])
    ]
    seen: set[tuple[str, frozenset[str]]] = set()
    loose: dict[str, str] = {}
    while waiting:
        wanted, extras = waiting.pop()
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(key[0])
        except PackageNotFoundError:
            loose[key[0]] = "not installed"
            continue
        if pins.get(key[0]) != Version(found.version):
            loose[key[0]] = f"installed {found.version}, pinned {pins.get(key[0])}"
        waiting += [(Requirement(text), key[1]) for text in found.requires or ()]
    assert len(seen) > 100
    assert loose == {}


@pytest.mark.parametrize("name", FLOORS)
def test_security_floors_hold(name: str, pins: dict[str, Version]) -> None:
    assert pins[name] >= Version(FLOORS[name])


def test_the_library_that_xgboost_brings_on_linux_is_pinned(pins: dict[str, Version]) -> None:
    assert pins["nvidia-nccl-cu12"] == Version("2.32.3")


def test_the_package_that_goes_in_without_its_pins_is_pinned_by_hash(pins: dict[str, Version]) -> None:
    lines = (ROOT / "requirements-ctrader.txt").read_text().splitlines()
    (wanted,) = [line for line in lines if line and not line.startswith(("#", "-"))]
    match = re.fullmatch(r"([a-z-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", wanted)
    assert match, wanted
    assert pins[match[1]] == Version(match[2]) == Version(distribution(match[1]).version)
    assert "--no-deps --require-hashes -r requirements-ctrader.txt" in (ROOT / "Makefile").read_text()


def test_the_licence_is_the_agpl_because_an_import_is(project: dict[str, object]) -> None:
    assert project["project"]["license"] == "AGPL-3.0-or-later"
    text = (ROOT / "LICENSE").read_text()
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in text
    assert "Version 3, 19 November 2007" in text
    assert "13. Remote Network Interaction" in text, "the whole text, not its first page"
    theirs = distribution("backtesting").metadata
    assert "AGPL" in " ".join([theirs.get("License") or "", *(theirs.get_all("Classifier") or ())]) or "Affero" in str(
        theirs
    )


def test_no_file_names_a_machine_or_a_package_index() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout, so nothing says which files are the project's")
    files = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    offences = []
    for path in files:
        content = path.read_bytes() if path.is_file() else b""
        text = content.decode("utf-8", errors="ignore") if b"\0" not in content[:8000] else ""
        offences += [f"{path.name}: {what}: {m[0]}" for what, bad in NOT_OURS.items() if (m := re.search(bad, text))]
    assert len(files) > 100
    assert offences == []


def test_the_code_location_has_one_name(project: dict[str, object]) -> None:
    (origin,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    module = origin["python_module"]
    settings = project["tool"]["dg"]["project"]
    assert settings["code_location_name"] == module["location_name"]
    assert module["module_name"].split(".")[0] == settings["root_module"]
    assert (ROOT / Path(*module["module_name"].split("."))).with_suffix(".py").is_file()
