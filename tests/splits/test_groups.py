"""A split only groups the shards: the samples and their bytes do not change."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.pack import assign_shards, shard_order_key, split_into_shards
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.integrity.verify import verify
from mesm_data.pipeline.build import build_dataset
from mesm_data.splits.groups import group_by_split, load_groups


def test_a_build_with_a_split_writes_each_part_and_the_rest_into_separate_files(
    corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    whole = Dataset(dataset)
    chosen = [key for key in whole.keys if key.endswith("_F000")]
    assert len(chosen) >= 3
    lists = {"train": chosen[0], "test": chosen[1]}
    (tmp_path / "lists").mkdir()
    for part, key in lists.items():
        (tmp_path / "lists" / f"{part}.txt").write_text(key)
    recipe = Recipe(corpus="iemocap", clips=False, only="*_F000")
    out = tmp_path / "out"
    info = build_dataset(scan_corpus("iemocap", corpus), out, recipe, split=str(tmp_path / "lists"), workers=1)
    grouped = Dataset(out)
    assert grouped.keys == chosen
    assert sorted(info["shards"]) == ["rest-000000.tar", "test-000000.tar", "train-000000.tar"]
    assert {key: grouped.rows[key]["shard"] for key in chosen} == {
        key: f"{ {chosen[0]: 'train', chosen[1]: 'test'}.get(key, 'rest') }-000000.tar" for key in chosen
    }
    assert list(verify(out)) == []
    for key in chosen:
        assert [grouped.member(key, name) for name in EXTENSIONS] == [whole.member(key, name) for name in EXTENSIONS]
    recorded = info["recipe"]["split"]
    assert recorded["name"] == "lists"
    assert load_groups(out, recorded).of(chosen[0]) == "train"
    # The same lists go on, others are another recipe.
    assert build_dataset(scan_corpus("iemocap", corpus), out, recipe, split=str(tmp_path / "lists"), workers=1) == info
    (tmp_path / "lists" / "test.txt").write_text(chosen[2])
    for split in (str(tmp_path / "lists"), None):
        with pytest.raises(InputError, match="begun with another recipe: split is"):
            build_dataset(scan_corpus("iemocap", corpus), out, recipe, split=split, workers=1)
    with pytest.raises(InputError, match="build again with --overwrite"):
        load_groups(out, {**recorded, "digest": "0"})


def test_an_impossible_split_is_refused_before_any_work(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split session-5 needs the sessions"):
        build_dataset(scan_corpus("iemocap", corpus), tmp_path / "out", Recipe(corpus="iemocap"), split="session-5")
    assert not (tmp_path / "out").exists()


def test_without_a_split_there_is_one_group() -> None:
    assert group_by_split([], "iemocap", None).of("any") == "all"
    assert replace(Recipe(corpus="iemocap")).as_dict()["split"] is None


samples = st.dictionaries(
    st.integers(0, 99).map("k{}".format), st.tuples(st.sampled_from(["train", "rest"]), st.integers(1, 40)), max_size=30
)


@given(samples, st.integers(1, 100), st.randoms(use_true_random=False))
def test_the_cut_of_a_group_depends_on_its_own_samples_alone(
    group_and_size: dict[str, tuple[str, int]], limit: int, random: object
) -> None:
    rows = [
        {"key": key, "status": "ok", "group": group, "part": {"start": 7, "stop": 7 + size}}
        for key, (group, size) in group_and_size.items()
    ]
    rows.append({"key": "lost", "status": "failed", "group": "train"})
    random.shuffle(rows)  # type: ignore[attr-defined]
    shards = {name: [row["key"] for row in some] for name, some in assign_shards(rows, limit).items()}
    for group in ("train", "rest"):
        keys = sorted((key for key, (of, _) in group_and_size.items() if of == group), key=shard_order_key)
        cut = list(split_into_shards([(key, group_and_size[key][1]) for key in keys], limit))
        names = [name for name in shards if name.startswith(group)]
        assert names == [f"{group}-{number:06d}.tar" for number in range(len(cut))]
        assert [shards[name] for name in names] == cut
