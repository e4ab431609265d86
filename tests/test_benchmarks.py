"""The benchmark runner: what it writes, what it does when a benchmark fails, and the feature benchmark itself."""

import json
import statistics
import sys
import types
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def _plant(monkeypatch: pytest.MonkeyPatch, **modules: types.ModuleType) -> None:
    """Make the runner discover these modules and no others."""
    import pkgutil

    from benchmarks import run

    found = [pkgutil.ModuleInfo(None, name, False) for name in ("measurement", *modules)]
    monkeypatch.setattr(run.pkgutil, "iter_modules", lambda path: found)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)


def _good(*names: str) -> types.ModuleType:
    from benchmarks.measurement import alone

    module = types.ModuleType("good")
    module.NAMES = names
    module.measure = lambda only: [
        alone(name, 0.5, unit="s", at_most=1) for name in names if only is None or name in only
    ]
    return module


def _raising(*names: str) -> types.ModuleType:
    module = types.ModuleType("raising")

    def measure(only: set[str] | None) -> list[object]:
        raise RuntimeError("the peer\nis not installed")

    module.NAMES, module.measure = names, measure
    return module


def test_the_file_holds_the_contract_keys_and_what_this_run_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import run

    _plant(monkeypatch, bench_one=_good("alpha", "beta"), bench_two=_good("gamma"))
    path = tmp_path / "new" / "results.json"
    assert run.main(["--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [row["name"] for row in rows] == ["alpha", "beta", "gamma"]
    assert set(rows[0]) == {"name", "ours", "peer", "ratio", "unit", "goal", "met", "note"}
    assert rows[0]["peer"] is None
    assert rows[0]["ratio"] is None
    assert rows[0]["met"] is True
    assert "gamma" in capsys.readouterr().out

    assert run.main(["--only", "beta", "--json", str(path)]) == 0
    assert [row["name"] for row in json.loads(path.read_text())] == ["beta"]
    assert [p.name for p in path.parent.iterdir()] == ["results.json"], "no temporary file is left behind"


def test_a_benchmark_that_raises_is_one_line_and_the_others_still_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import run

    _plant(monkeypatch, bench_bad=_raising("broken"), bench_good=_good("alpha"))
    path = tmp_path / "results.json"
    assert run.main(["--json", str(path)]) == 1
    assert capsys.readouterr().err == "bench_bad failed: RuntimeError: the peer is not installed\n"
    assert [row["name"] for row in json.loads(path.read_text())] == ["alpha"]
    assert run.main(["--only", "alpha", "--json", str(path)]) == 0, "what was not asked for is not run"


def test_a_module_that_cannot_be_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import run

    _plant(monkeypatch, bench_good=_good("alpha"), bench_missing=types.ModuleType("without_names"))
    assert run.main(["--json", str(tmp_path / "r.json")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bench_missing failed: AttributeError")
    assert err.count("\n") == 1


def test_an_unknown_name_is_wrong_usage_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import run

    _plant(monkeypatch, bench_good=_good("alpha"))
    assert run.main(["--only", "alfa", "--json", str(tmp_path / "r.json")]) == 2
    assert "unknown benchmark alfa; known: alpha" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_a_failed_write_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks import run
    from benchmarks.measurement import alone

    path = tmp_path / "results.json"
    run.write_json([alone("a", 1.0, unit="s")], path)
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON compliant"):
        run.write_json([alone("a", float("nan"), unit="s")], path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_goals_are_judged_as_written() -> None:
    from benchmarks.measurement import against_peer, alone

    fast = against_peer("a", 0.1, 1.0, unit="s", least_ratio=10)
    assert fast.ratio == 10
    assert (fast.goal, fast.met) == ("ratio >= 10", True)
    assert against_peer("a", 0.2, 1.0, unit="s", least_ratio=10).met is False
    assert against_peer("a", 0.2, 1.0, unit="s").met is None
    assert alone("a", 4.0, unit="s", at_most=3).met is False
    assert alone("a", 4.0, unit="windows/s", at_least=3).met is True
    with pytest.raises(ValueError, match="two goals"):
        alone("a", 1.0, unit="s", at_most=1, at_least=1)


def test_medians_take_the_two_sides_in_turn() -> None:
    from benchmarks.measurement import alternating_seconds, median_seconds

    calls: list[str] = []
    ours, peer = alternating_seconds(lambda: calls.append("ours"), lambda: calls.append("peer"), 3)
    assert calls == ["ours", "peer"] * 4, "one uncounted call of each, then three in turn"
    assert ours >= 0
    assert peer >= 0
    assert median_seconds(lambda: statistics.median([1]), 3) > 0


def test_every_benchmark_of_the_project_states_its_names_once() -> None:
    from benchmarks import run

    failed: list[str] = []
    names = [name for benchmark in run.discover(failed) for name in benchmark.names]
    assert failed == []
    assert "features_vs_ta" in names
    assert len(set(names)) == len(names)


def test_indicators_are_measured_against_equal_work_also_without_real_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import bench_features

    monkeypatch.setattr(bench_features, "_SHARED", ROOT / "no such file")
    monkeypatch.setattr(bench_features, "REPEATS", 1)
    monkeypatch.setattr(bench_features, "BARS", 12_000)
    monkeypatch.setattr(bench_features, "FRAMES", ("M1", "M5", "M15"))
    against_talib, against_ta, one_day, leaks = bench_features.measure(None)  # refuses to compare unequal work
    assert [m.name for m in (against_talib, against_ta, one_day, leaks)] == list(bench_features.NAMES)
    assert (against_ta.goal, against_talib.goal) == ("ratio >= 25", "ratio >= 0.2")
    for measured in (against_ta, against_talib):
        assert measured.ratio is not None
        assert measured.peer is not None
        assert measured.ratio == pytest.approx(measured.peer / measured.ours)
    assert "12,000 M1 bars of a seeded walk" in against_ta.note
    assert "rows agree to" in one_day.note
    assert ", 0 leaks" in leaks.note


def test_ingestion_is_measured_from_the_file_to_the_lake_also_without_real_bars(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks import bench_ingest

    monkeypatch.setattr(bench_ingest, "_SHARED", ROOT / "no such file")
    monkeypatch.setattr(bench_ingest, "REPEATS", 1)
    monkeypatch.setattr(bench_ingest, "BARS", 20_000)
    parquet, csv = bench_ingest.measure(None)  # refuses to measure unless every bar reached the lake
    assert [(m.name, m.unit, m.goal) for m in (parquet, csv)] == [
        ("ingest_parquet", "bars/s", "ours >= 1e+06"),
        ("ingest_csv", "bars/s", "ours >= 300000"),
    ]
    assert "20,000 M1 bars of a generated walk" in parquet.note
    assert all(step in csv.note for step in ("parse ", "judge ", "clean ", "write "))
    assert [m.name for m in bench_ingest.measure({"ingest_csv"})] == ["ingest_csv"]
    assert bench_ingest.measure({"another"}) == []


def test_the_bootstrap_and_the_search_are_judged_in_measured_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import bench_significance

    monkeypatch.setattr(bench_significance, "REPEATS", 1)
    monkeypatch.setattr(bench_significance, "TRIALS", 20)
    interval, pbo = bench_significance.measure(None)
    assert [(m.name, m.unit, m.goal) for m in (interval, pbo)] == [
        ("bootstrap_interval", "s", "ours <= 2"),
        ("pbo", "s", None),
    ]
    assert "1,000 replicates of 10,000 rows" in interval.note
    assert "20 trials x 2,000 rows x 16 blocks, 12,870 halves" in pbo.note
    assert [m.name for m in bench_significance.measure({"pbo"})] == ["pbo"]
    assert bench_significance.measure({"another"}) == []


def test_scores_are_measured_against_the_same_scores_of_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import bench_scores

    monkeypatch.setattr(bench_scores, "ORIGINS", 50)
    monkeypatch.setattr(bench_scores, "REPEATS", 1)
    crps, energy = bench_scores.measure(None)
    assert [(m.name, m.unit, m.goal) for m in (crps, energy)] == [
        ("crps", "s", "ours <= 1"),
        ("energy_score", "s", "ours <= 1"),
    ]
    for measured in (crps, energy):
        assert measured.peer is not None
        assert measured.ratio == pytest.approx(measured.peer / measured.ours)
        assert measured.met is (measured.ours <= 1)
        assert "50 origins x 100 samples x 4 horizons" in measured.note
    assert [m.name for m in bench_scores.measure({"crps"})] == ["crps"]
    assert bench_scores.measure({"another"}) == []
    monkeypatch.setattr(bench_scores, "fair_crps", lambda samples, y: 1.01 * np.abs(y))
    with pytest.raises(ValueError, match="crps: ours and the peer's differ"):
        bench_scores.measure({"crps"})


@pytest.mark.slow
def test_a_fresh_process_and_a_real_run_are_timed_and_the_environment_is_put_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import os

    from benchmarks import bench_platform

    monkeypatch.setattr(bench_platform, "REPEATS", 1)
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "untouched"))
    before = dict(os.environ)
    load, run = bench_platform.measure(None)
    assert dict(os.environ) == before
    assert not (tmp_path / "untouched").exists(), "a benchmark works in a home of its own"
    assert (load.name, load.unit, load.goal) == ("definitions_load", "s", "ours <= 3")
    assert (run.name, run.unit, run.peer) == ("dagster_run", "s", None)
    assert load.ours > 0
    assert run.ours > 0
    assert "in_process executor" in run.note
    assert "4,998 H1 bars" in run.note
    assert bench_platform.measure({"another"}) == []


def test_definitions_that_do_not_load_are_a_failure_not_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import bench_platform

    monkeypatch.setattr(bench_platform, "_LOAD", "raise SystemExit('no such module')")
    with pytest.raises(RuntimeError, match="did not load: no such module"):
        bench_platform.definitions_load()
