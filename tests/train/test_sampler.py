"""A class-balanced epoch draws every class equally often and is a function of seed and epoch."""

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import small_recipe

from mesm_train.config.recipe_files import load_recipe
from mesm_train.data.plan import Samples, plan
from mesm_train.data.sampler import balanced, class_groups, draw_weights
from mesm_train.runs.run import start_run
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.progress import NullLogger
from mesm_train.training.setup import prepare_run


def samples(count: int) -> Samples:
    keys = tuple(f"u{number:04}" for number in range(count))
    return Samples(keys=keys, shard=np.arange(count) // 7, cost=np.arange(count) % 5 + 1)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=5, max_size=80), st.integers(0, 5))
def test_every_group_is_drawn_equally_often_but_for_one(groups: list[int], epoch: int) -> None:
    owner = np.array(groups)
    drawn = balanced(samples(len(groups)), owner, seed=3, epoch=epoch)
    assert len(drawn.keys) == len(groups)
    assert list(drawn.keys) == sorted(drawn.keys)
    by_group = Counter(int(owner[int(key[1:])]) for key in drawn.keys)
    assert by_group.keys() == set(groups)
    assert max(by_group.values()) - min(by_group.values()) <= 1
    times = Counter(drawn.keys)
    for group in set(groups):
        counts = [times[f"u{index:04}"] for index in np.flatnonzero(owner == group)]
        assert max(counts) - min(counts) <= 1
    again = balanced(samples(len(groups)), owner, seed=3, epoch=epoch)
    assert again.keys == drawn.keys
    assert (again.shard == drawn.shard).all()


def test_epochs_and_seeds_differ_and_several_epochs_draw_every_utterance() -> None:
    owner = np.repeat([0, 1], [90, 10])
    epochs = [balanced(samples(100), owner, seed=0, epoch=epoch).keys for epoch in range(12)]
    assert len(set(epochs)) == 12
    assert balanced(samples(100), owner, seed=1, epoch=0).keys != epochs[0]
    assert set().union(*epochs) == set(samples(100).keys)


def test_a_plan_of_a_drawn_epoch_has_every_draw_once() -> None:
    """So its position is as exact as that of a plain epoch: any number of ranks, from any step on."""
    drawn = balanced(samples(50), np.repeat([0, 1, 2], [40, 8, 2]), seed=0, epoch=4)
    epoch_plan = plan(drawn, seed=0, epoch=4, batch=8)
    for world in (1, 3):
        for start in (0, 2):
            shares = [epoch_plan.shares(rank, world, start=start) for rank in range(world)]
            keys = Counter(key for own in shares for step in own for key in step)
            steps = epoch_plan.order[start:]
            assert keys == Counter(drawn.keys[index] for index in steps[steps >= 0])
    assert Counter(drawn.keys[index] for index in epoch_plan.order[epoch_plan.order >= 0]) == Counter(drawn.keys)


def test_an_utterance_of_several_classes_belongs_to_the_rarest_and_one_of_none_to_a_group_of_its_own() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 1]], np.float32)
    assert class_groups(labels).tolist() == [1, 0, 2, 3, 2]


def test_weights_are_the_mean_number_of_draws() -> None:
    owner = np.repeat([0, 1], [30, 10])
    weights = draw_weights(owner, 40)
    counts = Counter(key for epoch in range(60) for key in balanced(samples(40), owner, seed=0, epoch=epoch).keys)
    means = np.array([counts[key] / 60 for key in samples(40).keys])
    assert weights.sum() == 40
    assert np.abs(means - weights).max() < 0.3
    assert draw_weights(None, 3).tolist() == [1, 1, 1]


def test_a_stopped_class_balanced_run_resumes_exactly(dataset: Path, tmp_path: Path) -> None:
    config = load_recipe(str(small_recipe(tmp_path, dataset)), ["sampler=class-balanced", "optim.batch=4"])
    assert start_run(config, tmp_path / "whole", resume=False, stop=lambda: False, logger=NullLogger())
    calls = iter(range(1000))
    assert not start_run(config, tmp_path / "two", resume=False, stop=lambda: next(calls) > 2, logger=NullLogger())
    assert start_run(config, tmp_path / "two", resume=True, stop=lambda: False, logger=NullLogger())
    journals = [MetricsLog(tmp_path / run / "metrics.jsonl").read() for run in ("whole", "two")]
    losses = [[record["loss"] for record in records] for records in journals]
    assert losses[0] == losses[1]
    setup = prepare_run(config, tmp_path / "whole")
    counts = Counter(key for step in setup.plan(1).shares(0, 1) for key in step)
    by_class = Counter[int]()
    for key, count in counts.items():
        by_class[int(setup.targets[key].argmax())] += count
    assert max(by_class.values()) - min(by_class.values()) <= 1
    assert sum(counts.values()) == len(setup.keys["train"])
