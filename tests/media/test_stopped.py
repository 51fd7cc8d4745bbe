"""Guarantee: Ctrl-C or SIGTERM while ffmpeg is awaited ends the work, and loses neither sound nor frames."""

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from test_films import ffmpeg

from mesm_data.media import clip_encoder, sound_track
from mesm_data.media.clip_encoder import ClipWriter
from mesm_data.media.frame import Frame
from mesm_data.media.sound_track import decode_track


class Stopped(BaseException):
    """What the commands raise in a signal handler."""


@contextmanager
def signal_after(seconds: float) -> Iterator[None]:
    """A signal whose handler raises Stopped."""

    def stop(*_: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def through_shell(script: str) -> Callable[..., list[str]]:
    """Replaces `ffmpeg_command` by a script in which FFMPEG is the command."""
    command: Callable[..., list[str]] = sound_track.ffmpeg_command

    def changed(*arguments: Any, **options: Any) -> list[str]:
        return ["sh", "-c", script.replace("FFMPEG", shlex.join(command(*arguments, **options)))]

    return changed


def test_a_signal_while_sound_is_awaited_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the track, where its end would be a hole."""
    ffmpeg("-f", "lavfi", "-i", "sine=d=8", tmp_path / "a.mp4")
    whole = decode_track(tmp_path / "a.mp4", [(0, 8 * 16_000)], 16_000)
    assert not whole.gaps
    monkeypatch.setattr(
        sound_track, "ffmpeg_command", through_shell("FFMPEG | { head -c 100000; sleep 1; cat; }")
    )  # about half
    with pytest.raises(Stopped), signal_after(0.7):
        decode_track(tmp_path / "a.mp4", [(0, 8 * 16_000)], 16_000)


def test_a_signal_while_frames_are_written_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is full: ffmpeg starts late."""
    monkeypatch.setattr(clip_encoder, "ffmpeg_command", through_shell("sleep 1; exec FFMPEG"))
    writer = ClipWriter(
        tmp_path / "clip.mp4", start=Fraction(0), shape=(320, 240), colours={}, samples=np.zeros(0, np.int16),
        rate=16_000,
    )  # fmt: skip
    image = av.VideoFrame(320, 240, "yuv420p")
    frames = [Frame(begin=number, end=number + 1, scale=30, image=image) for number in range(4)]
    with pytest.raises(Stopped), signal_after(0.3):
        [writer.add(frame, 0, 320) for frame in frames]
    writer.close()
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        assert sum(1 for _ in clip.decode(video=0)) in (writer.frames, writer.frames + 1)
