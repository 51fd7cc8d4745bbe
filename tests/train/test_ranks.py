"""Guarantees of several ranks, with real ones (gloo): the same gradients, every sample once, one end for all."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rank_workers import (
    accumulated,
    answers,
    data_parallel,
    diverging,
    dying,
    failing,
    gradients,
    importance,
    journal,
    order_of_sums,
    ranks,
    slow_to_prepare,
    small_recipe,
    trained,
    trained_with_another_path,
    trained_with_other_settings,
    unreached,
)

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import read_json
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings import RanksConfig
from mesm_train.training.connection import connect_ranks
from mesm_train.training.distributed import ALONE, LostRanks, Ranks, _first_value
from mesm_train.training.setup import prepare_run

DEALS = {
    "two": [[0, 2, 4], [1, 3, 5]],
    "four, one of them empty": [[0, 1], [5], [], [2, 3, 4]],
    "two, each without a modality": [[2, 4], [1]],
    "more ranks than samples": [[3], [], []],
}


@pytest.mark.parametrize("sync", [False, True], ids=["batch norm in eval mode", "synchronised batch norm"])
@pytest.mark.parametrize("name", DEALS)
def test_gradients_do_not_depend_on_the_distribution_of_a_step_over_ranks(
    name: str, sync: bool, tmp_path: Path
) -> None:
    """With batch norm in evaluation mode, or over all ranks: what one rank computes of the whole step."""
    deal = DEALS[name]
    whole = [sorted(index for part in deal for index in part)]
    expected, statistics = gradients(ALONE, whole, sync)
    for result, running in ranks(len(deal), gradients, deal, sync, folder=tmp_path):
        for parameter, gradient in expected.items():
            assert (gradient is None) == (result[parameter] is None), parameter
            if gradient is not None:
                np.testing.assert_allclose(result[parameter], gradient, rtol=1e-4, atol=1e-6)
        for buffer, value in statistics.items():
            np.testing.assert_allclose(running[buffer], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DEALS)
def test_all_ranks_sum_in_the_same_order_whatever_their_batches_use(name: str, tmp_path: Path) -> None:
    """Gradients and the statistics of batch norm share a process group, in which the order pairs what is summed."""
    first, *others = ranks(len(DEALS[name]), order_of_sums, DEALS[name], folder=tmp_path)
    assert all(len(order) > 20 for order in first)
    assert all(orders == first for orders in others)


@pytest.mark.parametrize("engine", ["torch", "cpp"])
def test_sparse_blocks_train_under_torchs_own_data_parallelism(engine: str, tmp_path: Path) -> None:
    """For those who take the model without our loop: uneven parts, and every parameter has its gradient."""
    expected = data_parallel(ALONE, [[0, 1, 2, 3, 4, 5]], engine)
    for result in ranks(2, data_parallel, [[0, 1, 4, 5], [2, 3]], engine, folder=tmp_path):
        assert result.keys() == expected.keys()
        for name, gradient in expected.items():
            np.testing.assert_allclose(result[name], gradient, rtol=1e-4, atol=1e-5)


def test_tiles_are_as_important_as_one_rank_measures_and_the_same_on_all_ranks(tmp_path: Path) -> None:
    """Also with a rank without any picture."""
    expected = importance(ALONE, [[0, 1, 2, 3, 4, 5]])
    results = ranks(3, importance, [[0, 1, 4, 5], [], [2, 3]], folder=tmp_path)
    for first, other, goal in zip(results[0], results[1], expected, strict=True):
        assert not (goal == 1).all()
        np.testing.assert_array_equal(other, first)
        np.testing.assert_allclose(first, goal, rtol=1e-6)


def test_a_parameter_that_no_rank_used_has_no_gradient(tmp_path: Path) -> None:
    assert ranks(2, unreached, folder=tmp_path) == [[False, True, True]] * 2


def test_accumulated_gradients_are_those_of_one_rank(tmp_path: Path) -> None:
    """Two micro-batches; what a rank's last one does not reach, an earlier one did."""
    deals = [[[0, 2], [1]], [[3], []]]
    expected = accumulated(ALONE, [[[0, 1, 2]], [[3]]])
    for result in ranks(2, accumulated, deals, folder=tmp_path):
        for parameter, gradient in expected.items():
            np.testing.assert_allclose(result[parameter], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_rank_0_may_prepare_for_longer_than_the_time_limit(tmp_path: Path) -> None:
    assert ranks(2, slow_to_prepare, 9.0, folder=tmp_path, limit=4) == [True, True]


def test_a_batch_smaller_than_the_world_is_refused_and_one_or_two_utterances_share_their_statistics(
    recipe: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"optim.batch is 2, fewer utterances than there are ranks \(3\)"):
        prepare_run(load_recipe(recipe, ["optim.batch=2"]), tmp_path, ranks=Ranks(rank=0, world=3))
    assert RanksConfig().synchronised(batch=16, world=8)
    assert not RanksConfig().synchronised(batch=17, world=8)
    assert not RanksConfig(sync_batch_norm=False).synchronised(batch=8, world=8)


def test_restarts_on_several_machines_need_a_store_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun sets on two machines of one rank, unless TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1."""
    variables = {
        "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_MAX_RESTARTS": "3",
        "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"), connect_ranks("cpu", 1):
        pass


def test_a_damaged_sample_on_one_rank_stops_all_and_no_checkpoint_is_saved(
    recipe: str, dataset: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(dataset, tmp_path / "own"))
    split = yaml.safe_load(Path(yaml.safe_load(Path(recipe).read_text())["split"]).read_text())
    key = split["train"][-1]
    row = Dataset(own).rows[key]
    with (own / "shards" / row["shard"]).open("r+b") as file:
        file.seek(row["faces_offset"] + 5_000)
        file.write(b"\x00\xff" * 8)
    result = ranks(2, trained, recipe, [f"data={own}"], tmp_path / "run", None, folder=tmp_path / "f")
    assert [error[0] for error in result] == ["MesmError"] * 2
    assert all(f"sample {key} is damaged" in error[1] for error in result)
    assert [error[2] for error in result] == [False, True]
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_folder_that_another_machine_sees_later_is_waited_for(recipe: str, tmp_path: Path) -> None:
    """NFS may say for a minute that what another machine has just written is not there."""
    result = ranks(2, trained_with_another_path, recipe, tmp_path / "run", [], "link", folder=tmp_path / "f")
    assert all(isinstance(batches_read, list) for batches_read in result), result


def test_a_copy_of_the_run_on_another_machine_is_refused(recipe: str, tmp_path: Path) -> None:
    sets = ["ranks.timeout_seconds=4"]
    result = ranks(2, trained_with_another_path, recipe, tmp_path / "run", sets, "copy", folder=tmp_path / "f")
    assert [error[0] for error in result] == ["InputError"] * 2, result
    assert all("is not the same folder on all machines" in error[1] for error in result)


@pytest.mark.parametrize(
    ("others", "name"), [("optim.batch=6", "config.optim.batch"), ("labels=soft", "the label view")]
)
def test_ranks_with_other_settings_are_refused(others: str, name: str, recipe: str, tmp_path: Path) -> None:
    """As of two machines with a recipe or a dataset of their own: they would train on without noticing."""
    result = ranks(2, trained_with_other_settings, recipe, tmp_path / "run", [others], folder=tmp_path / "f")
    assert [error[0] for error in result] == ["InputError"] * 2, result
    assert all(error[1].startswith(f"rank 1: {name}: ") for error in result)
    assert [error[2] for error in result] == [False, True]


def test_an_average_of_the_weights_goes_with_synchronised_batch_norm(recipe: str, tmp_path: Path) -> None:
    sets = ["optim.ema=0.9", "ranks.sync_batch_norm=true", "optim.epochs=1"]
    result = ranks(2, trained, recipe, sets, tmp_path / "run", None, folder=tmp_path / "f")
    assert all(isinstance(batches_read, list) for batches_read in result), result


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MesmError("shard x is damaged"), ("MesmError", "rank 1: shard x is damaged")),
        (PermissionError(13, "no", "/x"), ("InputError", "rank 1: /x: no: give this user the right to it, or choose")),
        (OSError(30, "read-only", "/x"), ("MesmError", "rank 1: /x: the disk is read-only")),
    ],
    ids=["of mesm", "of a path", "of the machine"],
)
def test_an_error_on_one_rank_stops_all_and_is_reported_once(
    error: Exception, told: tuple[str, str], tmp_path: Path
) -> None:
    result = ranks(3, failing, error, folder=tmp_path)
    assert all(kind == told[0] and text.startswith(told[1]) for kind, text, _ in result), result
    assert [reported for *_, reported in result] == [False, True, True]


def test_a_killed_rank_is_noticed_by_the_others(tmp_path: Path) -> None:
    result = ranks(3, dying, folder=tmp_path)
    assert result[1] == -9
    for rank in (0, 2):
        assert "--resume" in result[rank]
        assert f"rank {rank} of 3" in result[rank]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> str:
    return small_recipe(tmp_path_factory.mktemp("ranks"), dataset)


def weights(run: Path) -> str:
    step = read_json(run / "checkpoints" / "last.json")["step"]
    return sha256_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def steps_of(batches_read: list[list[Any]]) -> dict[tuple[int, int], Counter[str]]:
    """How often each key was given, by epoch and step, over all ranks."""
    result: dict[tuple[int, int], Counter[str]] = {}
    for rank in batches_read:
        for epoch, step, keys in rank:
            result.setdefault((epoch, step), Counter()).update(keys)
    return result


def test_a_run_resumes_exactly_on_the_same_and_any_other_number_of_ranks(recipe: str, tmp_path: Path) -> None:
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
def test_ranks_without_samples_in_some_steps_train_with_text_and_sparse_blocks(recipe: str, tmp_path: Path) -> None:
    """Steps of at most three samples on three ranks, MESM with all modalities and a text encoder that rank 0 makes."""
    sets = [
        "model.kind=mesm", "model.modalities=[t, v, a]", "text.encoder=tiny", "optim.batch=3", "optim.epochs=1",
        "ranks.sync_batch_norm=true",
        "augment.word_dropout=0.2",
    ]  # fmt: skip
    batches_read = ranks(3, trained, recipe, sets, tmp_path / "run", None, folder=tmp_path / "f")
    assert any(sum(not keys for _, _, keys in step) >= 1 for step in zip(*batches_read, strict=True))
    assert all(line["loss"] > 0 for line in journal(tmp_path / "run") if line["kind"] == "train")


def test_evaluation_is_the_same_to_the_bit_on_any_number_of_ranks(recipe: str, tmp_path: Path) -> None:
    """Each utterance once, and every rank has all answers, also the one that was asked nothing."""
    [alone] = ranks(1, answers, recipe, tmp_path / "run", folder=tmp_path / "1")
    assert len(set(alone[0])) == len(alone[0]) > 10
    assert ranks(3, answers, recipe, tmp_path / "run", folder=tmp_path / "3") == [alone] * 3


def test_divergence_on_one_rank_stops_all_and_names_its_samples(recipe: str, tmp_path: Path) -> None:
    result = ranks(2, diverging, recipe, tmp_path / "run", folder=tmp_path / "f")
    assert result[0][0] == result[1][0] == "MesmError"
    assert "the loss is nan at epoch 0, step 1" in result[0][1]
    assert [error[2] for error in result] == [False, True]
    diverged = read_json(tmp_path / "run" / "diverged.json")
    assert diverged["ranks"] == [1]
    assert diverged["keys"]


@pytest.mark.parametrize("kind", ["fe2e", "mesm"])
def test_divergence_in_the_last_update_of_an_epoch_is_told_once(kind: str, recipe: str, tmp_path: Path) -> None:
    """Nothing but the validation sees it: the losses were finite."""
    sets = [
        f"model.kind={kind}", "model.modalities=[t, v]", "text.encoder=tiny", "optim.batch=200", "optim.lr=1e30"
    ]  # fmt: skip
    result = ranks(2, trained, recipe, sets, tmp_path / "run", None, folder=tmp_path / "f")
    assert [error[0] for error in result] == ["MesmError"] * 2, result
    assert all("not finite" in error[1] and "diverged" in error[1] for error in result)
    assert [error[2] for error in result] == [False, True]


def test_an_error_of_a_backend_is_known_as_one_although_it_does_not_name_it() -> None:
    """As DistributedDataParallel's hook passes it on; seen when the network between two machines broke."""
    future = torch.futures.Future[Any]()
    summed = future.then(_first_value)
    future.set_exception(RuntimeError("Application timeout caused pair closure"))
    with pytest.raises(RuntimeError, match="Application timeout") as caught:
        summed.wait()
    with pytest.raises(LostRanks, match="rank 1 of 2 has lost the others"), Ranks(rank=1, world=2).backend_errors():
        raise caught.value
