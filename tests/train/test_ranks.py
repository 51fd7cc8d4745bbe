"""Guarantees of several ranks, with real ones (gloo): the same gradients, every sample once, one end for all."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rank_workers import (
    answers,
    data_parallel,
    diverging,
    dying,
    failing,
    gradients,
    journal,
    ranks,
    small_recipe,
    trained,
    unreached,
)

from mesm_data.files import read_json, sha256_file
from mesm_train.distributed import ALONE

DEALS = {
    "two": [[0, 2, 4], [1, 3, 5]],
    "four, one of them empty": [[0, 1], [5], [], [2, 3, 4]],
    "two, each without a modality": [[2, 4], [1]],
    "more ranks than samples": [[3], [], []],
}


@pytest.mark.parametrize("sync", [False, True], ids=["batch norm in eval mode", "synchronised batch norm"])
@pytest.mark.parametrize("name", DEALS)
def test_gradients_do_not_depend_on_how_a_step_is_dealt(name: str, sync: bool, tmp_path: Path) -> None:
    """With batch norm in evaluation mode, or over all ranks: what one rank computes of the whole step."""
    deal = DEALS[name]
    whole = [sorted(index for part in deal for index in part)]
    expected, statistics = gradients(ALONE, whole, sync)
    for found, running in ranks(len(deal), gradients, deal, sync, folder=tmp_path):
        for parameter, gradient in expected.items():
            assert (gradient is None) == (found[parameter] is None), parameter
            if gradient is not None:
                np.testing.assert_allclose(found[parameter], gradient, rtol=1e-4, atol=1e-6)
        for buffer, value in statistics.items():
            np.testing.assert_allclose(running[buffer], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["torch", "cpp"])
def test_sparse_blocks_train_under_torchs_own_data_parallelism(engine: str, tmp_path: Path) -> None:
    """For those who take the model without our loop: uneven parts, and every parameter has its gradient."""
    expected = data_parallel(ALONE, [[0, 1, 2, 3, 4, 5]], engine)
    for found in ranks(2, data_parallel, [[0, 1, 4, 5], [2, 3]], engine, folder=tmp_path):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_a_parameter_that_no_rank_reached_keeps_no_gradient(tmp_path: Path) -> None:
    assert ranks(2, unreached, folder=tmp_path) == [[False, True, True]] * 2


def test_what_fails_on_one_rank_fails_on_all_and_is_said_once(tmp_path: Path) -> None:
    found = ranks(3, failing, folder=tmp_path)
    assert {error[:2] for error in found} == {("MesmError", "rank 1: shard x is damaged")}
    assert [error[2] for error in found] == [False, True, True]


def test_a_killed_rank_is_noticed_by_the_others(tmp_path: Path) -> None:
    found = ranks(3, dying, folder=tmp_path)
    assert found[1] == -9
    assert all("--resume" in said and f"rank {rank} of 3" in said for rank, said in ((0, found[0]), (2, found[2])))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> str:
    return small_recipe(tmp_path_factory.mktemp("ranks"), dataset)


def weights(run: Path) -> str:
    step = read_json(run / "checkpoints" / "last.json")["step"]
    return sha256_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def steps_of(given: list[list[Any]]) -> dict[tuple[int, int], Counter[str]]:
    """How often each key was given, by epoch and step, over all ranks."""
    found: dict[tuple[int, int], Counter[str]] = {}
    for rank in given:
        for epoch, step, keys in rank:
            found.setdefault((epoch, step), Counter()).update(keys)
    return found


def test_a_run_goes_on_exactly_on_as_many_ranks_and_on_any_other_number(recipe: str, tmp_path: Path) -> None:
    """Stopped after three steps. On two ranks again: the same bits. On one and three: the remaining samples, once."""
    unbroken = steps_of(ranks(2, trained, recipe, [], tmp_path / "whole", None, folder=tmp_path / "0"))
    train = yaml.safe_load(Path(yaml.safe_load(Path(recipe).read_text())["split"]).read_text())["train"]
    for epoch in (0, 1):
        once = sum((keys for (e, _), keys in unbroken.items() if e == epoch), Counter())
        assert once == Counter(train)
    for world in (2, 1, 3):
        run = tmp_path / f"on {world}"
        first = steps_of(ranks(2, trained, recipe, [], run, 3, folder=tmp_path / f"a{world}"))
        rest = steps_of(ranks(world, trained, recipe, [], run, None, folder=tmp_path / f"b{world}"))
        assert not set(first) & set(rest)
        assert {**first, **rest} == unbroken
        assert len(journal(run)) == len(journal(tmp_path / "whole"))
        if world == 2:
            assert journal(run) == journal(tmp_path / "whole")
            assert weights(run) == weights(tmp_path / "whole")


@pytest.mark.slow
def test_ranks_that_are_empty_in_every_step_train_along_with_text_and_sparse_blocks(
    recipe: str, tmp_path: Path
) -> None:
    """Steps of two samples on three ranks, MESM with all modalities and a text encoder that rank 0 makes."""
    sets = [
        "model.kind=mesm", "model.modalities=[t, v, a]", "text.encoder=tiny", "optim.batch=2", "optim.epochs=1",
        "augment.word_dropout=0.2",
    ]  # fmt: skip
    given = ranks(3, trained, recipe, sets, tmp_path / "run", None, folder=tmp_path / "f")
    assert all(sum(not keys for _, _, keys in step) >= 1 for step in zip(*given, strict=True))
    assert all(line["loss"] > 0 for line in journal(tmp_path / "run") if line["kind"] == "train")


def test_evaluation_is_the_same_to_the_bit_on_any_number_of_ranks(recipe: str, tmp_path: Path) -> None:
    """Each utterance once, and every rank has all answers, also the one that was asked nothing."""
    [alone] = ranks(1, answers, recipe, tmp_path / "run", folder=tmp_path / "1")
    assert len(set(alone[0])) == len(alone[0]) > 10
    assert ranks(3, answers, recipe, tmp_path / "run", folder=tmp_path / "3") == [alone] * 3


def test_divergence_on_one_rank_stops_all_and_names_its_samples(recipe: str, tmp_path: Path) -> None:
    found = ranks(2, diverging, recipe, tmp_path / "run", folder=tmp_path / "f")
    assert found[0][0] == found[1][0] == "MesmError"
    assert "the loss is nan at epoch 0, step 1" in found[0][1]
    assert [error[2] for error in found] == [False, True]
    said = read_json(tmp_path / "run" / "diverged.json")
    assert said["ranks"] == [1]
    assert said["keys"]
