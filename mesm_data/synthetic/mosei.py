"""`mesm-data sample mosei`: a small synthetic corpus with the exact folders of CMU-MOSEI's raw data.

This program generates every face, voice and sentence; nothing comes from the corpus. COVAREP's files are omitted.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from random import Random
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError, MesmError
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.storage.parallel import available_cpus
from mesm_data.storage.progress import Progress, no_progress
from mesm_data.synthetic import expression, mosei_csd, mosei_script, mosei_text, speech
from mesm_data.synthetic.acting import Part, plan_looks
from mesm_data.synthetic.actor import BOTTOM, TOP, WIDTH, Actor
from mesm_data.synthetic.assets import assets_folder
from mesm_data.synthetic.iemocap import MODES
from mesm_data.synthetic.mosei_script import Clip, Monologue
from mesm_data.synthetic.mosei_text import AUDIO, LABELS, PLAIN, SEGMENTS, TRANSCRIPTS, VIDEO
from mesm_data.synthetic.speech import RATE, Span, Speech, Synthesiser
from mesm_data.synthetic.takes import room_noise, shift_spans, speak_within, write_text, write_wav
from mesm_data.synthetic.video import write_video
from mesm_data.synthetic.work import MARKER, atomic_folder, in_fresh_processes

VIDEOS = 12
COMMENT = "SYNTHETIC, not CMU-MOSEI"
TRUNCATED_SHARE = 0.6  # of the bytes of a truncated mp4; its index would follow
MAX_ZOOM = 1.7  # of the picture in an upright video, relative to its width

SYNTHETIC = """SYNTHETIC

This is not CMU-MOSEI. Everything in this folder was made by a program (mesm-data sample mosei, seed {seed}): rendered
faces, espeak-ng's voice, sentences from templates, invented labels and workers. It has CMU-MOSEI's folders and file
formats, so that programs for that corpus can be tried. Numbers measured on it say nothing about people.
"""
FOLDERS = (AUDIO, VIDEO, SEGMENTS, TRANSCRIPTS, PLAIN, LABELS, "Raw/Metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    root: Path
    monologue: Monologue
    seed: int
    mode: str


def write_corpus(
    out: Path,
    *,
    videos: int | None = None,
    seed: int = 0,
    mode: str = "bank",
    workers: int | None = None,
    clips: int = 6,
    progress: Progress = no_progress,
) -> None:
    """Write a synthetic corpus to `out`, which appears only when it is complete.

    The same arguments give identical files on one machine. Of 12 videos one has no audio stream, one has a variable
    frame rate, and one cannot be opened (its clips can).

    Args:
        out: a new or an empty folder.
        videos: number of videos, 1 to 1000; default 12.
        seed: the seed of everything that is drawn.
        mode: as for IEMOCAP.
        workers: as for IEMOCAP.
        clips: approximate number of clips in a video.
        progress: starts a phase; it is called with the name of the corpus, and counts videos.

    Raises:
        InputError: `out` is not empty, an argument is out of range, or espeak-ng or the head model is not installed.
    """
    if mode not in MODES:
        raise InputError(f"--mode {mode}: expected one of {', '.join(MODES)}")
    plan = mosei_script.plan(VIDEOS if videos is None else videos, seed, clips=clips)
    workers = min(len(plan), workers or available_cpus())
    speech.library()
    assets_folder()
    marker = SYNTHETIC.format(seed=seed)
    with atomic_folder(out, marker) as root:
        step = progress("sample mosei", len(plan), len(plan))
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)
        for path in ("README.txt", f"Raw/{MARKER}"):
            write_text(root / path, marker)
        for name, text in mosei_text.labels(plan):
            write_text(root / LABELS / name, text)
        jobs = [_Job(root=root, monologue=monologue, seed=seed, mode=mode) for monologue in plan]
        words: dict[str, tuple[Span, ...]] = {}
        for id_, spans in in_fresh_processes(_write_video, jobs, workers):
            words[id_] = spans
            step(1)
        mosei_csd.write_csd_files(root, plan, words)


def _write_video(job: _Job) -> tuple[str, tuple[Span, ...]]:
    """Write the files of one video; return its id and timed words. Runs in a separate process: see Synthesiser."""
    monologue, root = job.monologue, job.root
    id_, form = monologue.id, monologue.form
    synthesiser = Synthesiser()
    speeches = [(clip, speak_within(synthesiser, clip.text, clip.voice, clip.room)) for clip in monologue.clips]
    write_text(root / TRANSCRIPTS / f"{id_}.txt", mosei_text.transcript(monologue))
    write_text(root / PLAIN / f"{id_}.plaintext", mosei_text.plain(monologue))
    wav = root / AUDIO / f"{id_}.wav"
    write_wav(wav, _signal(monologue, speeches, job.seed), COMMENT)
    whole = root / VIDEO / f"{id_}.mp4"
    write_video(
        whole,
        _frames(monologue, speeches, job),
        fps=form.fps,
        audio=wav if form.sound else None,
        codec="libx264",
        comment=f"{COMMENT}: {id_}",
        varying=form.varying,
    )
    for clip in monologue.clips:
        _write_clip(whole, root / SEGMENTS / f"{id_}_{clip.number}.mp4", clip)
    if form.torn:
        os.truncate(whole, int(TRUNCATED_SHARE * whole.stat().st_size))
    return id_, tuple(word for clip, sound in speeches for word in shift_spans(sound.words, clip.at))


def _signal(monologue: Monologue, speeches: Sequence[tuple[Clip, Speech]], seed: int) -> NDArray[np.float32]:
    """Return all speech of the video, with room noise: (n,) float32 at 16 kHz."""
    signal = room_noise(monologue.duration, [seed, crc32(monologue.id.encode())])
    for clip, sound in speeches:
        at = round(clip.at * RATE)
        signal[at : at + len(sound.samples)] += sound.samples
    return signal


def _frames(monologue: Monologue, speeches: Sequence[tuple[Clip, Speech]], job: _Job) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames (height, width, 3) uint8 RGB."""
    form, who = monologue.form, monologue.speaker
    parts = [
        Part(
            start=clip.at,
            end=clip.at + sound.duration,
            face=clip.face,
            strength=expression.FACE,
            phonemes=shift_spans(sound.phonemes, clip.at),
        )
        for clip, sound in speeches
    ]
    actor = Actor(seed=who.seed, female=who.female, markers=False, mode=job.mode)
    frames = ceil(monologue.duration * form.fps)
    for index, look in enumerate(plan_looks(parts, frames, form.fps, Random(f"{job.seed} blinks {monologue.id}"))):
        yield fit_to_frame(actor.picture(look, float(index / form.fps)), form.width, form.height)


def fit_to_frame(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Fit an actor's picture, without its black bars, to another format: enlarge it, crop the sides and the bottom.

    An upright frame is filled by repeating the upper and lower rows of the picture.
    """
    view = picture[TOP:BOTTOM]
    scale = min(max(width / WIDTH, height / len(view)), MAX_ZOOM * width / WIDTH)
    large = cv2.resize(view, (max(width, round(scale * WIDTH)), round(scale * len(view))))
    left = (large.shape[1] - width) // 2
    large = large[:height, left : left + width]
    above = (height - len(large)) // 3
    filled = cv2.copyMakeBorder(large, above, height - len(large) - above, 0, 0, cv2.BORDER_REPLICATE)
    return np.asarray(filled, np.uint8)


def _write_clip(whole: Path, out: Path, clip: Clip) -> None:
    """Write Videos/Segmented/Combined/<vid>_<clip>.mp4: the annotated seconds, re-encoded. Raises MesmError."""
    command = [
        ffmpeg_binary(), "-v", "error", "-nostdin", "-ss", clip.start, "-to", clip.end, "-i", f"file:{whole}",
        "-c:v", "libx264", "-preset", "ultrafast", "-crf", "26", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "64k",
        "-map_metadata", "-1", "-metadata", f"comment={COMMENT}: {out.stem}", "-threads", "1", "-fflags", "+bitexact",
        "-flags:v", "+bitexact", "-flags:a", "+bitexact", f"file:{out}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise MesmError(f"ffmpeg could not write {out} (exit {done.returncode}): {done.stderr.strip()}")
