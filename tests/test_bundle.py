import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import BadInput, BundleError, UnknownName
from forexgpt_core.features.splits import SplitShares, evidence_parts
from forexgpt_core.features.windows import Windows, market_arrays, usable
from forexgpt_core.models.bundle import MANIFEST, METADATA, Bundle, BundleStore
from forexgpt_core.models.bundled import load_model, write_model_bundle
from forexgpt_core.models.catalogue import FAMILIES, new_forecaster
from forexgpt_core.models.files import read_arrays, write_arrays
from forexgpt_core.models.forecaster import FitRun

KIND = "forest_model"


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path / "bundles")


def write(
    store: BundleStore, content: str = "weights", *, kind: str = KIND, parents: tuple[Bundle, ...] = ()
) -> Bundle:
    def fill(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "weights.bin").write_text(content)

    return store.write("EURUSD", "H1", kind, fill, metadata={"seed": 1}, parents=parents)


def age(bundle: Bundle, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(bundle.path, (then, then))


class TestBundle:
    def test_the_folder_is_named_by_its_content(self, store: BundleStore) -> None:
        bundle = write(store)
        assert bundle.path == store.root / "EURUSD" / "H1" / KIND / bundle.hash12
        assert sorted(p.name for p in bundle.path.iterdir()) == [MANIFEST, "config.json", METADATA, "weights.bin"]
        assert store.open("EURUSD", "H1", KIND, bundle.hash12) == bundle
        assert store.find(bundle.hash12) == bundle
        assert write(store, "other").hash12 != bundle.hash12

    def test_the_same_content_is_the_same_bundle(self, store: BundleStore) -> None:
        first = write(store)
        stamp = (first.path / METADATA).stat().st_ino
        assert write(store) == first
        assert (first.path / METADATA).stat().st_ino == stamp
        assert [p.name for p in first.path.parent.iterdir()] == [first.hash12]

    def test_the_manifest_reads_like_that_of_sha256sum(self, store: BundleStore) -> None:
        import hashlib

        bundle = write(store)
        lines = (bundle.path / MANIFEST).read_text().splitlines()
        assert lines[1] == f"{hashlib.sha256(b'weights').hexdigest()}  weights.bin"
        assert hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest().startswith(bundle.hash12)

    def test_metadata_lies_outside_the_hash(self, store: BundleStore) -> None:
        bundle = write(store)
        (bundle.path / METADATA).write_text(json.dumps({"note": "moved"}))
        assert store.open("EURUSD", "H1", KIND, bundle.hash12) == bundle

    def test_a_failed_fill_leaves_nothing(self, store: BundleStore) -> None:
        def fill(folder: Path) -> None:
            (folder / "half").write_text("x")
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            store.write("EURUSD", "H1", KIND, fill, metadata={})
        assert list((store.root / "EURUSD" / "H1" / KIND).iterdir()) == []

    def test_folders_links_and_nothing_are_refused(self, store: BundleStore) -> None:
        with pytest.raises(BundleError, match=r"'inner' in bundle .* is not a plain file"):
            store.write("EURUSD", "H1", KIND, lambda folder: (folder / "inner").mkdir(), metadata={})
        with pytest.raises(BundleError, match="not a plain file"):
            store.write("EURUSD", "H1", KIND, lambda folder: (folder / "x").symlink_to("/etc/hosts"), metadata={})
        with pytest.raises(BundleError, match="at least one file"):
            store.write("EURUSD", "H1", KIND, lambda folder: None, metadata={})

    @pytest.mark.parametrize(
        ("symbol", "timeframe", "kind", "hash12"),
        [
            ("../../", "H1", KIND, "0" * 12),
            ("eurusd", "H1", KIND, "0" * 12),
            ("EURUSD", "../H", KIND, "0" * 12),
            ("EURUSD", "H1", "a/b", "0" * 12),
            ("EURUSD", "H1", "", "0" * 12),
            ("EURUSD", "H1", KIND, "../../../x"),
            ("EURUSD", "H1", KIND, "0" * 12 + "\n"),
        ],
    )
    def test_no_name_leads_out_of_the_store(
        self, store: BundleStore, symbol: str, timeframe: str, kind: str, hash12: str
    ) -> None:
        with pytest.raises(UnknownName, match="is not a bundle"):
            store.open(symbol, timeframe, kind, hash12)

    def test_a_bundle_that_is_not_there_is_named(self, store: BundleStore) -> None:
        with pytest.raises(BundleError, match=r"no bundle EURUSD/H1/forest_model/0{12}"):
            store.open("EURUSD", "H1", KIND, "0" * 12)
        with pytest.raises(BundleError, match=r"no bundle 0{12}"):
            store.find("0" * 12)


class TestTampering:
    def refused(self, store: BundleStore, bundle: Bundle, match: str) -> None:
        with pytest.raises(BundleError, match=match):
            store.open("EURUSD", "H1", KIND, bundle.hash12)

    def test_a_flipped_byte(self, store: BundleStore) -> None:
        bundle = write(store)
        content = bytearray((bundle.path / "weights.bin").read_bytes())
        content[3] ^= 1
        (bundle.path / "weights.bin").write_bytes(content)
        self.refused(store, bundle, r"'weights.bin' in bundle")

    def test_a_truncated_file(self, store: BundleStore) -> None:
        bundle = write(store)
        (bundle.path / "weights.bin").write_bytes(b"weig")
        self.refused(store, bundle, r"'weights.bin' in bundle")

    def test_a_missing_file(self, store: BundleStore) -> None:
        bundle = write(store)
        (bundle.path / "weights.bin").unlink()
        self.refused(store, bundle, r"lacks its file 'weights.bin'")

    def test_an_extra_file(self, store: BundleStore) -> None:
        bundle = write(store)
        (bundle.path / "payload.py").write_text("")
        self.refused(store, bundle, r"holds 'payload.py'")

    def test_a_link_in_place_of_a_file(self, store: BundleStore, tmp_path: Path) -> None:
        bundle = write(store)
        (tmp_path / "same").write_text("weights")
        (bundle.path / "weights.bin").unlink()
        (bundle.path / "weights.bin").symlink_to(tmp_path / "same")
        self.refused(store, bundle, "not a plain file")

    def test_a_manifest_rewritten_to_fit(self, store: BundleStore) -> None:
        bundle, other = write(store), write(store, "evil")
        shutil.copy(other.path / "weights.bin", bundle.path / "weights.bin")
        shutil.copy(other.path / MANIFEST, bundle.path / MANIFEST)
        self.refused(store, bundle, f"'{MANIFEST}' .* was altered")

    def test_a_missing_manifest(self, store: BundleStore) -> None:
        bundle = write(store)
        (bundle.path / MANIFEST).unlink()
        self.refused(store, bundle, f"lacks a readable '{MANIFEST}'")

    def test_a_file_beyond_the_size_limit(self, store: BundleStore, monkeypatch: pytest.MonkeyPatch) -> None:
        bundle = write(store)
        monkeypatch.setattr("forexgpt_core.models.bundle.MAX_FILE_BYTES", 3)
        self.refused(store, bundle, r"weights.bin has 7 bytes|at most 3")


class TestPrune:
    def test_the_newest_of_each_kind_stay(self, store: BundleStore) -> None:
        bundles = [write(store, str(n)) for n in range(7)]
        for n, bundle in enumerate(bundles):
            age(bundle, 1000 - n)
        other = write(store, "x", kind="linear_model")
        age(other, 10**6)
        assert store.prune(keep=5) == sorted(b.hash12 for b in bundles[:2])
        assert {b.hash12 for b in store.all()} == {b.hash12 for b in [*bundles[2:], other]}

    def test_what_is_protected_stays_with_all_it_was_made_from(self, store: BundleStore) -> None:
        model = write(store, "model")
        calibration = write(store, "calibration", kind="forest_calibration", parents=(model,))
        ensemble = write(store, "ensemble", kind="ensemble", parents=(calibration,))
        for bundle in (model, calibration, ensemble):
            age(bundle, 10**6)
        for n in range(2):
            for kind in (KIND, "forest_calibration", "ensemble"):
                write(store, f"newer {n}", kind=kind)
        assert store.prune(keep=2, protected={ensemble.hash12}) == []
        assert len(store.prune(keep=2)) == 3

    def test_writing_the_same_again_makes_it_new(self, store: BundleStore) -> None:
        old, newer = write(store, "old"), write(store, "newer")
        age(old, 2000)
        age(newer, 1000)
        write(store, "old")
        assert store.prune(keep=1) == [newer.hash12]

    def test_unfinished_writings_go_after_a_day(self, store: BundleStore) -> None:
        bundle = write(store)
        for name, old in ((".writing-old", 2 * 86400), (".writing-new", 60)):
            folder = bundle.path.parent / name
            folder.mkdir()
            os.utime(folder, (time.time() - old, time.time() - old))
        store.prune()
        assert sorted(p.name for p in bundle.path.parent.iterdir()) == [".writing-new", bundle.hash12]

    def test_keeping_none_is_refused(self, store: BundleStore) -> None:
        with pytest.raises(BadInput, match="at least 1"):
            store.prune(keep=0)


def test_objects_in_arrays_are_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    with (tmp_path / "weights.npz").open("wb") as file:
        np.savez(file, x=np.array([Bomb()], dtype=object))
    with pytest.raises(BundleError, match="plain arrays"):
        read_arrays(tmp_path / "weights.npz")
    assert not (tmp_path / "exploded").exists()


def test_equal_arrays_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_arrays(tmp_path / name, {"y": np.arange(3.0), "x": np.zeros(2)})
        time.sleep(0.01)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.fixture(scope="module")
def windows() -> Windows:
    rng = np.random.default_rng(0)
    ts = expected_opens(np.datetime64("2018-01-01"), np.datetime64("2018-06-01"), Timeframe.H1)[:1200]
    features = rng.normal(size=(1200, 3))
    returns = 5e-4 * rng.standard_t(6, size=1200) * np.exp(0.8 * np.roll(features[:, 0], 1))
    stamps = pl.Series("ts_utc", ts)
    table = pl.DataFrame({"ts_utc": stamps, **{f"f{n}": features[:, n] for n in range(3)}})
    candles = pl.DataFrame({"ts_utc": stamps, "close": np.exp(np.cumsum(returns))})
    return usable(market_arrays("EURUSD", Timeframe.H1, candles, table, (1, 3)), matured=True)


class TestModelBundle:
    def written(self, store: BundleStore, windows: Windows, family: str, folder: Path) -> Bundle:
        parts = evidence_parts(windows, SplitShares())
        options: dict[str, object] = {"rounds": 15} if family == "boosting" else {}
        model = new_forecaster(family, options).fit(parts.train, parts.valid, run=FitRun(seed=1, folder=folder))
        return write_model_bundle(
            store, model, parts.train, recipe_json='{"a":1}', kind=f"{family}_model", metadata={"seed": 1}
        )

    @pytest.mark.parametrize("family", sorted(FAMILIES))
    def test_a_model_comes_back_as_it_went(
        self, store: BundleStore, windows: Windows, family: str, tmp_path: Path
    ) -> None:
        bundle = self.written(store, windows, family, tmp_path)
        names = {p.name for p in bundle.path.iterdir()}
        assert {"config.json", "recipe.json", "feature_names.json", "probe.npz", METADATA, MANIFEST} <= names
        assert ("scaler.json" in names) == (family != "random_walk")
        assert not [name for name in names if name.endswith((".pkl", ".joblib", ".pickle"))]
        loaded = load_model(store, "EURUSD", "H1", f"{family}_model", bundle.hash12)
        assert loaded.forecaster.family == family
        assert loaded.recipe_json == '{"a":1}'
        assert loaded.feature_names == (() if family == "random_walk" else ("f0", "f1", "f2"))
        assert self.written(store, windows, family, tmp_path) == bundle

    def test_a_model_that_answers_otherwise_than_its_probe_is_refused(
        self, store: BundleStore, windows: Windows, tmp_path: Path
    ) -> None:
        good = self.written(store, windows, "linear", tmp_path)

        def fill(folder: Path) -> None:
            for path in good.path.iterdir():
                if path.name not in (MANIFEST, METADATA):
                    shutil.copy(path, folder)
            arrays = read_arrays(folder / "weights.npz")
            write_arrays(folder / "weights.npz", {**arrays, "spread": arrays["spread"] + 1e-6})

        forged = store.write("EURUSD", "H1", "linear_model", fill, metadata={})
        with pytest.raises(BundleError, match="does not give the output stored"):
            load_model(store, "EURUSD", "H1", "linear_model", forged.hash12)

    def test_no_weight_is_read_before_the_manifest_is_proven(
        self, store: BundleStore, windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bundle = self.written(store, windows, "forest", tmp_path)
        weights = bundle.path / "weights.npz"
        weights.write_bytes(weights.read_bytes()[:-1])

        def never(*args: object, **kwargs: object) -> None:
            raise AssertionError("a weight file was opened")

        monkeypatch.setattr(np, "load", never)
        with pytest.raises(BundleError, match=r"'weights.npz'"):
            load_model(store, "EURUSD", "H1", "forest_model", bundle.hash12)
