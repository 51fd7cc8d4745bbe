"""All folds and seeds in one folder: resumable, each run like any other, refused where a fold cannot be scored."""

import json
import re
from pathlib import Path

import pytest
from small_runs import small_recipe

from mesm_data.errors import InputError
from mesm_train.analysis.compare_tables import cv_table
from mesm_train.analysis.cross_validation import Job, plan_jobs, summarise, write_plan
from mesm_train.analysis.schedule import finished, run_all
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings import RunConfig
from mesm_train.runs.evaluate import evaluate
from mesm_train.training.progress import NullLogger


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> RunConfig:
    recipe = small_recipe(tmp_path_factory.mktemp("cv"), dataset)
    return load_recipe(str(recipe), ["labels=dimensions", "optim.epochs=1"])


def configs(jobs: list[Job]) -> dict[str, RunConfig]:
    return {job.path: job.config for job in jobs}


def test_a_stopped_cross_validation_resumes_and_is_summarised(config: RunConfig, tmp_path: Path) -> None:
    jobs = plan_jobs(config, "session", 2)
    assert [(job.fold, job.seed) for job in jobs] == [(f"session:{n}", seed) for n in (1, 2, 3) for seed in (0, 1)]
    write_plan(tmp_path, "session", jobs)
    calls = iter(range(1000))
    assert not run_all(configs(jobs), tmp_path, jobs=1, stop=lambda: next(calls) > 6, logger=NullLogger())
    ended = [job for job in jobs if finished(tmp_path / job.path)]
    assert 0 < len(ended) < len(jobs)
    before = (tmp_path / ended[0].path / "metrics.jsonl").read_bytes()
    assert run_all(configs(jobs), tmp_path, jobs=1, stop=lambda: False, logger=NullLogger())
    assert (tmp_path / ended[0].path / "metrics.jsonl").read_bytes() == before

    comparison = summarise(tmp_path)
    [system] = comparison.systems
    assert (len(system.folds), system.seeds) == (3, (0, 1))
    keys, _ = system.pooled("numbers")
    assert len(keys) == sum(run.scores["n"] for run in system.runs if run.seed == 0)
    estimate = system.estimate("mae")
    values = [run.scores["mean"]["mae"] for run in system.runs]
    assert estimate.mean == pytest.approx(sum(values) / 6)
    assert None not in (estimate.sd, estimate.sd_folds, estimate.sd_seeds, estimate.pooled, estimate.pooled_sd)
    table = cv_table(comparison)
    assert [row[1] for row in table.rows] == ["CCC", "r", "MAE"]
    evaluation = evaluate(tmp_path / jobs[0].path, part="test")
    assert evaluation.scores == evaluation.before

    with pytest.raises(InputError, match="holds another cross-validation"):
        write_plan(tmp_path, "session", jobs[:4])
    other = {name: load_with(of, 1e-4) for name, of in configs(jobs[:1]).items()}
    for _ in ("finished", "started"):
        with pytest.raises(InputError, match=r"was started with optim\.lr"):
            run_all(other, tmp_path, jobs=1, stop=lambda: False, logger=NullLogger())
        (tmp_path / jobs[0].path / "report.html").unlink(missing_ok=True)
    of_another = tmp_path / jobs[1].path / "provenance.json"
    of_another.write_text(re.sub('"root": "[0-9a-f]+"', '"root": "0123"', of_another.read_text()))
    with pytest.raises(InputError, match="was trained on another dataset, root 0123; that of"):
        run_all(configs(jobs), tmp_path, jobs=2, stop=lambda: False, logger=NullLogger())


def load_with(config: RunConfig, lr: float) -> RunConfig:
    from dataclasses import replace

    return replace(config, optim=replace(config.optim, lr=lr))


def test_modalities_are_ablated_where_the_model_supports_it(config: RunConfig) -> None:
    jobs = plan_jobs(config, "session", 1, ablate_modalities=True)
    assert sorted({job.variant for job in jobs}) == ["a", "t", "ta", "tv", "tva", "v", "va"]
    assert {job.config.model.modalities for job in jobs if job.variant == "va"} == {("v", "a")}
    sparse = load_recipe("demo-mesm", [f"data={json.dumps(config.data)}", "labels=dimensions"])
    assert {job.variant for job in plan_jobs(sparse, "session", 1, ablate_modalities=True)} == {"t", "ta", "tv", "tva"}


def test_a_fold_without_a_class_is_refused_by_name_before_anything_is_trained(config: RunConfig) -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match=r"fold session:\d: no utterance of its \w+ part \(\d+\) is .*dis"):
        plan_jobs(replace(config, labels="majority"), "session", 1)
    with pytest.raises(InputError, match="scored on the test parts"):
        plan_jobs(replace(config, eval=replace(config.eval, test=False)), "session", 1)
    with pytest.raises(InputError, match="no data: give --data"):
        plan_jobs(replace(config, data=None), "session", 1)


def test_a_cross_validation_may_grow_by_seeds_and_by_nothing_else(config: RunConfig, tmp_path: Path) -> None:
    one, two = plan_jobs(config, "session", 1), plan_jobs(config, "session", 2)
    write_plan(tmp_path, "session", one)
    write_plan(tmp_path, "session", two)
    assert len(json.loads((tmp_path / "cv.json").read_text())["runs"]) == 6
    ablated = plan_jobs(config, "session", 2, ablate_modalities=True)
    for protocol, jobs in (("session", one), ("session", two[:4]), ("session", two + ablated), ("speaker", two)):
        with pytest.raises(InputError, match="at least its seeds"):
            write_plan(tmp_path, protocol, jobs)


def test_a_folder_with_other_things_is_refused(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds other things"):
        write_plan(tmp_path, "session", [])


@pytest.mark.slow
def test_runs_in_several_processes_equal_those_in_one(config: RunConfig, tmp_path: Path) -> None:
    jobs = plan_jobs(config, "session", 1)[:2]
    for name, count in (("one", 1), ("two", 2)):
        assert run_all(configs(jobs), tmp_path / name, jobs=count, stop=lambda: False, logger=NullLogger())
    for job in jobs:
        paths = [tmp_path / name / job.path / "results.json" for name in ("one", "two")]
        scores = [json.loads(path.read_text())["scores"]["test"]["mean"] for path in paths]
        assert scores[0] == pytest.approx(scores[1], rel=1e-4)
