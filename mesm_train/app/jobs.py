"""From an uploaded file to the page of its prediction. The file is deleted when the page is made, or has failed."""

import math
import shutil
import tempfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from secrets import token_urlsafe

from mesm_data.errors import InputError, MesmError
from mesm_data.media.duration import measure_duration
from mesm_train.explain.contents import clip_subjects
from mesm_train.explain.page import render_explanation
from mesm_train.inference.clips import Clip, FaceChoice
from mesm_train.inference.media_paths import is_media
from mesm_train.inference.predictor import Predictor
from mesm_train.report.figures import over_time

MAX_BYTES = 200 * 10**6
MAX_SECONDS = 60.0
TIMELINE_FROM = 6.0  # seconds of a clip from which on its outputs are also shown over time
KEPT_PAGES = 8


class Results:
    """The last pages, by an address that cannot be guessed."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, str] = OrderedDict()

    def add(self, page: str) -> str:
        """Keep a page; returns its address."""
        token = token_urlsafe(16)
        self._pages[token] = page
        while len(self._pages) > KEPT_PAGES:
            self._pages.popitem(last=False)
        return token

    def get(self, token: str) -> str | None:
        """The page, unless newer ones have replaced it."""
        return self._pages.get(token)


def new_upload_folder() -> Path:
    """A folder for one upload, which `predict_upload` removes."""
    return Path(tempfile.mkdtemp(prefix="mesm-app-"))


def safe_name(name: str) -> str:
    """The last part of a file's name, short, with its ending. Raises InputError if it has none of a media file."""
    last = Path(name.replace("\\", "/")).name
    ending = Path(last).suffix.lower()
    stem = "".join(letter for letter in Path(last).stem if letter.isalnum() or letter in " -_.")[:60].strip(" .")
    return f"{stem or 'clip'}{ending}"


def predict_upload(predictor: Predictor, file: Path, *, text: str, face: FaceChoice = None) -> str:
    """The page of a clip's prediction. The folder of `file` is removed in any case.

    Raises InputError or MesmError, in one sentence, if the clip is too long or cannot be decoded.
    """
    folder = f"{file.parent}/"
    try:
        seconds = check_upload(file)
        clip = Clip(path=file, text=text.strip() or None, face=face)
        subjects = clip_subjects(predictor, [clip])
        timeline = predict_over_time(predictor, clip, seconds) if seconds >= TIMELINE_FROM else None
        return render_explanation(predictor, subjects, heading=False, timeline=timeline).replace(folder, "")
    except MesmError as error:
        raise type(error)(str(error).replace(folder, "")) from None
    finally:
        shutil.rmtree(file.parent, ignore_errors=True)


def check_upload(file: Path) -> float:
    """The length of a clip in seconds. Raises InputError if it is too long, or no media file by its name."""
    if not is_media(file):
        raise InputError(f"{file.name}: the ending is not that of a video or audio file")
    seconds = measure_duration(file)
    if not math.isfinite(seconds) or seconds > MAX_SECONDS:
        raise InputError(
            f"{file.name} is {seconds:.0f} s long; this page takes up to {MAX_SECONDS:.0f} s. `mesm-train predict` "
            "takes longer ones, in windows"
        )
    return seconds


def predict_over_time(predictor: Predictor, clip: Clip, seconds: float) -> str | None:
    """The outputs in windows of 4 s as SVG; None if nothing can be predicted without the text."""
    timeline, _ = predictor.predict_windows(replace(clip, text=None), seconds=4.0, step=2.0, allow_missing=True)
    if len(timeline) < 2:
        return None
    names = [timeline[0].meaning(name) for name in timeline[0].values]
    times = [(one.start + one.end) / 2 for one in timeline]
    return over_time(names, times, [list(one.values.values()) for one in timeline], seconds)
