"""`mesm-data sample iemocap`: a small synthetic corpus with the exact folders of IEMOCAP_full_release.

This program generates every face, voice and sentence; nothing comes from the corpus. The MOCAP folders are omitted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from random import Random
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError
from mesm_data.storage.parallel import available_cpus
from mesm_data.storage.progress import Progress, no_progress
from mesm_data.synthetic import expression, iemocap_align, iemocap_text, script, speech
from mesm_data.synthetic.acting import Part, plan_looks
from mesm_data.synthetic.actor import Actor, Look
from mesm_data.synthetic.assets import assets_folder
from mesm_data.synthetic.phonemes import PHONEMES
from mesm_data.synthetic.script import Dialog, Turn
from mesm_data.synthetic.speech import RATE, Speech, Synthesiser
from mesm_data.synthetic.takes import room_noise, shift_spans, speak_within, write_text, write_wav
from mesm_data.synthetic.video import write_video
from mesm_data.synthetic.work import atomic_folder, in_fresh_processes

DIALOGS = 10
FPS = Fraction(30_000, 1001)
BLEED = 0.1  # amplitude of the other actor in each channel of the dialog wav: -20 dB
MODES = ("bank", "full")
COMMENT = "SYNTHETIC, not IEMOCAP"

SYNTHETIC = """SYNTHETIC

This is not IEMOCAP. Everything in this folder was made by a program (mesm-data sample iemocap, seed {seed}): rendered
faces, espeak-ng's voice, sentences from templates, invented labels and raters. It has IEMOCAP's folders and file
formats, so that programs for that corpus can be tried. Numbers measured on it say nothing about people.
"""
TIMES = """SYNTHETIC
All times are seconds from the start of the dialog; wav, avi, transcriptions and evaluations share them.
Forced alignments count frames of 10 ms from the start of the utterance.
"""
FOLDERS = (
    "dialog/avi/DivX",
    "dialog/EmoEvaluation/Attribute",
    "dialog/EmoEvaluation/Categorical",
    "dialog/EmoEvaluation/Self-evaluation",
    "dialog/lab/Ses0{session}_F",
    "dialog/lab/Ses0{session}_M",
    "dialog/transcriptions",
    "dialog/wav",
    "sentences/ForcedAlignment",
    "sentences/wav",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    root: Path
    dialog: Dialog
    seed: int
    mode: str


def write_corpus(
    out: Path,
    *,
    dialogs: int | None = None,
    seed: int = 0,
    mode: str = "bank",
    workers: int | None = None,
    turns: int = 30,
    progress: Progress = no_progress,
) -> None:
    """Write a synthetic corpus to `out`, which appears only when it is complete.

    The same arguments give identical files on one machine.

    Args:
        out: a new or an empty folder.
        dialogs: number of dialogs, 1 to 151; default 10.
        seed: the seed of everything that is drawn.
        mode: "full" renders every frame; "bank" uses a bank of rendered faces, which is 5 times as fast.
        workers: number of processes, which does not change the files; default: one per core.
        turns: approximate number of turns in a dialog.
        progress: starts a phase; it is called with the name of the corpus, and counts dialogs.

    Raises:
        InputError: `out` is not empty, an argument is out of range, or espeak-ng or the head model is not installed.
    """
    if mode not in MODES:
        raise InputError(f"--mode {mode}: expected one of {', '.join(MODES)}")
    plan = script.plan(DIALOGS if dialogs is None else dialogs, seed, turns=turns)
    workers = min(len(plan), workers or available_cpus())
    speech.library()
    assets_folder()
    marker = SYNTHETIC.format(seed=seed)
    with atomic_folder(out, marker) as root:
        step = progress("sample iemocap", len(plan), len(plan))
        _write_skeleton(root, marker)
        jobs = [_Job(root=root, dialog=dialog, seed=seed, mode=mode) for dialog in plan]
        for _ in in_fresh_processes(_write_dialog, jobs, workers):
            step(1)


def _write_skeleton(root: Path, marker: str) -> None:
    """Write the folders, also of sessions without dialogs, and the files above the sessions."""
    for session in range(1, 6):
        for folder in FOLDERS:
            (root / f"Session{session}" / folder.format(session=session)).mkdir(parents=True)
    (root / "Documentation").mkdir()
    write_text(root / "README.txt", marker)
    write_text(root / "Documentation/timeinfo.txt", TIMES)
    write_text(
        root / "Documentation/phonemes.txt", "\n".join(["SIL", *sorted({name for name, _ in PHONEMES.values()})]) + "\n"
    )


def _write_dialog(job: _Job) -> None:
    """Write all files of one dialog. Runs in a separate process: see Synthesiser."""
    dialog, session = job.dialog, job.root / f"Session{job.dialog.session}"
    synthesiser = Synthesiser()
    speeches = [
        (turn, speak_within(synthesiser, turn.text, turn.voice, turn.end - turn.start - turn.lead - 0.05))
        for turn in dialog.turns
    ]
    _write_texts(session, dialog)
    _write_alignments(session / "sentences/ForcedAlignment" / dialog.id, speeches)
    clean = {letter: _signal(dialog, letter, speeches, job.seed) for letter in "FM"}
    _write_sentences(session / "sentences/wav" / dialog.id, dialog, clean)
    left, right = (dialog.markers, "M" if dialog.markers == "F" else "F")
    wav = session / "dialog/wav" / f"{dialog.id}.wav"
    write_wav(wav, np.stack([clean[a] + BLEED * clean[b] for a, b in ((left, right), (right, left))], axis=1), COMMENT)
    frames = ceil(dialog.duration * FPS)
    faces = [
        (_actor(dialog, letter, job.mode), _looks(dialog, letter, speeches, frames, job.seed))
        for letter in (left, right)
    ]
    avi = session / "dialog/avi/DivX" / f"{dialog.id}.avi"
    write_video(avi, _split_screen(faces), fps=FPS, audio=wav, comment=f"{COMMENT}: {dialog.id}")


def _write_texts(session: Path, dialog: Dialog) -> None:
    evaluations = session / "dialog/EmoEvaluation"
    write_text(evaluations / f"{dialog.id}.txt", iemocap_text.evaluation(dialog))
    for path, text in iemocap_text.rater_files(dialog):
        write_text(evaluations / path, text)
    write_text(session / "dialog/transcriptions" / f"{dialog.id}.txt", iemocap_text.transcription(dialog))
    for letter in "FM":
        write_text(
            session / f"dialog/lab/Ses0{dialog.session}_{letter}/{dialog.id}.lab", iemocap_text.lab(dialog, letter)
        )


def _write_alignments(folder: Path, speeches: Sequence[tuple[Turn, Speech]]) -> None:
    folder.mkdir()
    for turn, sound in speeches:
        if turn.label:
            segments = iemocap_align.align(turn.text, sound, turn.lead, turn.end - turn.start)
            write_text(folder / f"{turn.id}.wdseg", iemocap_align.wdseg(segments, turn.id))
            write_text(folder / f"{turn.id}.phseg", iemocap_align.phseg(segments, turn.id))
            write_text(folder / f"{turn.id}.syseg", iemocap_align.syseg(segments))


def _signal(dialog: Dialog, letter: str, speeches: Sequence[tuple[Turn, Speech]], seed: int) -> NDArray[np.float32]:
    """Return all speech of one actor in the dialog, with room noise: (n,) float32 at 16 kHz."""
    signal = room_noise(dialog.duration, [seed, crc32(f"{dialog.id} {letter}".encode())])
    for turn, sound in speeches:
        if turn.speaker == letter:
            at = round((turn.start + turn.lead) * RATE)
            signal[at : at + len(sound.samples)] += sound.samples
    return signal


def _write_sentences(folder: Path, dialog: Dialog, clean: dict[str, NDArray[np.float32]]) -> None:
    folder.mkdir()
    for turn in dialog.turns:
        if turn.label:
            piece = clean[turn.speaker][round(turn.start * RATE) : round(turn.end * RATE)]
            write_wav(folder / f"{turn.id}.wav", piece, COMMENT)


def _actor(dialog: Dialog, letter: str, mode: str) -> Actor:
    who = dialog.actors[letter]
    return Actor(seed=who.seed, female=who.female, markers=letter == dialog.markers, mode=mode)


def _looks(dialog: Dialog, letter: str, speeches: Sequence[tuple[Turn, Speech]], frames: int, seed: int) -> list[Look]:
    parts = [
        Part(
            start=turn.start,
            end=turn.end,
            face=turn.face,
            strength=expression.FACE,
            phonemes=shift_spans(sound.phonemes, turn.start + turn.lead),
        )
        for turn, sound in speeches
        if turn.speaker == letter
    ]
    return plan_looks(parts, frames, FPS, Random(f"{seed} blinks {dialog.id} {letter}"))


def _split_screen(faces: Sequence[tuple[Actor, Sequence[Look]]]) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames (480, 720, 3) uint8 RGB: the actors side by side."""
    (left, left_looks), (right, right_looks) = faces
    for index, looks_ in enumerate(zip(left_looks, right_looks, strict=True)):
        t = float(index / FPS)
        yield np.concatenate([left.picture(looks_[0], t), right.picture(looks_[1], t)], axis=1)
