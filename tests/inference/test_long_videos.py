"""Guarantees of predict on many clips of one file: memory is bounded, and nothing else depends on it."""

import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

import mesm_train
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import MesmError
from mesm_data.media import extract
from mesm_data.media.video_result import VideoResult
from mesm_train.inference import Clip, Failure, Prediction, decode, predictor
from mesm_train.inference.ahead import IsStopped, read_ahead
from mesm_train.inference.clips import ClipInput
from mesm_train.inference.windows import windows


def count_alive(*kinds: type) -> int:
    return sum(type(each) in kinds for each in gc.get_objects())


def test_of_a_long_video_a_few_windows_are_in_memory_at_a_time(
    fe2e_run: Path, dialog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 windows over 16 s: at most those of the last second, 4 that wait and a batch of 4, in each of their forms."""
    monkeypatch.setattr(predictor, "BATCH", 4)
    monkeypatch.setattr(decode, "iter_faces", partial(extract.iter_faces, lag=Fraction(1)))
    monkeypatch.setattr(decode, "MAX_SOUND", 2.0)
    model = mesm_train.load(fe2e_run, device="cpu")
    clips = windows(Clip(path=dialog, end=15.75), seconds=1.0, step=0.25)
    assert len(clips) == 60
    before, alive, answers = count_alive(ClipInput, VideoResult), list[int](), list[Prediction | Failure]()
    for answer in model.predict_clips(clips, allow_missing=True):
        answers.append(answer)
        if len(answers) % 6 == 0:  # looking at all objects takes a while
            alive.append(count_alive(ClipInput, VideoResult) - before)
    assert max(alive) < 30
    assert [(each.start, each.end) for each in answers if isinstance(each, Prediction)] == [
        (clip.start, clip.end) for clip in clips
    ]


def test_a_window_is_the_same_alone_and_among_others_in_any_order(dialog: Path) -> None:
    recipe, clip = Recipe(corpus="iemocap", clips=False), Clip(path=dialog, face="left")
    spans = [(3.0, 4.0), (0.5, 4.5), (0.0, 1.0), (3.25, 3.75)]
    clips = [replace(clip, start=start, end=end) for start, end in spans]
    together = list(decode.decode(clips, recipe, "tva"))
    for one, among_others in zip(clips, together, strict=True):
        [alone] = decode.decode([one], recipe, "tva")
        assert among_others.clip == alone.clip == one
        assert among_others.times == alone.times
        assert (among_others.faces == alone.faces).all()
        assert (among_others.samples == alone.samples).all()


def test_a_file_that_breaks_fails_for_its_own_clips_only(fe2e_run: Path, dialog: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.avi").write_bytes(dialog.read_bytes()[:4000])
    model = mesm_train.load(fe2e_run, device="cpu")
    clips = [Clip(path=path, end=0.6, text="no") for path in (tmp_path / "torn.avi", dialog, tmp_path / "none.avi")]
    torn, fine, missing = model.predict_clips(clips)
    assert isinstance(torn, Failure)
    assert "torn.avi" in torn.reason
    assert isinstance(fine, Prediction)
    assert isinstance(missing, Failure)
    assert "there is no such file" in missing.reason


def numbers(source: int, _: IsStopped, taken: list[int]) -> Iterator[int]:
    for number in range(50):
        taken.append(number)
        yield 100 * source + number
    if source == 3:
        raise MesmError("the third is broken")


@pytest.mark.parametrize("workers", [1, 3])
def test_items_come_in_order_and_an_error_where_it_happens(workers: int) -> None:
    taken: list[int] = []
    items = read_ahead(partial(numbers, taken=taken), range(5), workers=workers, ahead=4)
    expected = [100 * source + number for source in range(4) for number in range(50)]
    assert [next(items) for _ in expected] == expected
    with pytest.raises(MesmError, match="the third is broken"):
        next(items)


def test_no_more_is_read_than_allowed_and_an_early_end_stops_the_threads() -> None:
    taken: list[int] = []
    items = read_ahead(partial(numbers, taken=taken), range(5), workers=2, ahead=4)
    assert next(items) == 0
    items.close()  # waits for the threads
    assert len(taken) <= 2 * (4 + 2)


def test_a_thread_that_is_far_from_its_next_item_is_stopped_on_its_way() -> None:
    def far(_: int, is_stopped: IsStopped) -> Iterator[int]:
        yield 0
        while not is_stopped():
            time.sleep(0.001)

    items = read_ahead(far, range(5), workers=2, ahead=4)
    assert next(items) == 0
    items.close()


def test_a_stopped_pass_over_a_video_decodes_no_further(dialog: Path) -> None:
    asked: list[bool] = []

    def is_stopped() -> bool:
        asked.append(len(asked) >= 20)
        return asked[-1]

    recipe = Recipe(corpus="iemocap", clips=False)
    [clip] = decode.decode([Clip(path=dialog, start=10.0, end=11.0)], recipe, "v", is_stopped=is_stopped)
    assert not clip.faces.size
    assert len(asked) == 21
