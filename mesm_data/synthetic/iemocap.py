"""`mesm-data sample iemocap`: a small synthetic corpus in the exact tree of IEMOCAP_full_release.

Every face, voice and sentence is made by this program; nothing comes from the corpus. The MOCAP folders are left out.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from random import Random
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mesm_data.errors import InputError
from mesm_data.synthetic import iemocap_align, iemocap_text, script, speech
from mesm_data.synthetic.acting import Part, looks
from mesm_data.synthetic.actor import Actor, Look
from mesm_data.synthetic.assets import assets_folder
from mesm_data.synthetic.phonemes import PHONEMES
from mesm_data.synthetic.script import Dialog, Turn
from mesm_data.synthetic.speech import RATE, Speech, Synthesiser
from mesm_data.synthetic.takes import moved, quiet, say, write_text, write_wav
from mesm_data.synthetic.video import write_video
from mesm_data.synthetic.work import in_fresh_processes, whole_folder

DIALOGS = 10
FPS = Fraction(30_000, 1001)
BLEED = 0.1  # of the other actor in each channel of the dialog's wav: -20 dB
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


def write(
    out: Path,
    *,
    dialogs: int | None = None,
    seed: int = 0,
    mode: str = "bank",
    workers: int | None = None,
    turns: int = 30,
) -> None:
    """Write a corpus of `dialogs` dialogs (10 if not given, at most 151) of about `turns` turns to `out`.

    `mode` "full" renders every frame, "bank" takes faces from a stock of pictures: 5 times as fast. `workers` processes
    (one a core if not given) do not change what is written; the same arguments give the same bytes on one machine.
    `out` appears when it is whole. Raises InputError if it exists and is not empty, for arguments out of range and
    where espeak-ng or the head model is not installed.
    """
    if mode not in MODES:
        raise InputError(f"--mode {mode}: expected one of {', '.join(MODES)}")
    plan = script.plan(DIALOGS if dialogs is None else dialogs, seed, turns=turns)
    workers = min(len(plan), workers or os.cpu_count() or 1)
    speech.library()
    assets_folder()
    marker = SYNTHETIC.format(seed=seed)
    with whole_folder(out, marker) as root, tqdm(total=len(plan), unit="dialog", desc="sample iemocap") as bar:
        _write_frame(root, marker)
        jobs = [_Job(root=root, dialog=dialog, seed=seed, mode=mode) for dialog in plan]
        for _ in in_fresh_processes(_write_dialog, jobs, workers):
            bar.update()


def _write_frame(root: Path, marker: str) -> None:
    """The folders and what lies above the sessions. A session without dialogs has its folders all the same."""
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
    """All files of one dialog. In a process of its own: see Synthesiser."""
    dialog, session = job.dialog, job.root / f"Session{job.dialog.session}"
    synthesiser = Synthesiser()
    said = [
        (turn, say(synthesiser, turn.text, turn.voice, turn.end - turn.start - turn.lead - 0.05))
        for turn in dialog.turns
    ]
    _write_texts(session, dialog)
    _write_alignments(session / "sentences/ForcedAlignment" / dialog.id, said)
    clean = {letter: _signal(dialog, letter, said, job.seed) for letter in "FM"}
    _write_sentences(session / "sentences/wav" / dialog.id, dialog, clean)
    left, right = (dialog.markers, "M" if dialog.markers == "F" else "F")
    wav = session / "dialog/wav" / f"{dialog.id}.wav"
    write_wav(wav, np.stack([clean[a] + BLEED * clean[b] for a, b in ((left, right), (right, left))], axis=1), COMMENT)
    frames = ceil(dialog.duration * FPS)
    faces = [
        (_actor(dialog, letter, job.mode), _looks(dialog, letter, said, frames, job.seed)) for letter in (left, right)
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


def _write_alignments(folder: Path, said: Sequence[tuple[Turn, Speech]]) -> None:
    folder.mkdir()
    for turn, heard in said:
        if turn.label:
            segments = iemocap_align.align(turn.text, heard, turn.lead, turn.end - turn.start)
            write_text(folder / f"{turn.id}.wdseg", iemocap_align.wdseg(segments, turn.id))
            write_text(folder / f"{turn.id}.phseg", iemocap_align.phseg(segments, turn.id))
            write_text(folder / f"{turn.id}.syseg", iemocap_align.syseg(segments))


def _signal(dialog: Dialog, letter: str, said: Sequence[tuple[Turn, Speech]], seed: int) -> NDArray[np.float32]:
    """(n,) float32 at 16 kHz: everything that one actor says in the dialog, in a quiet room."""
    signal = quiet(dialog.duration, [seed, crc32(f"{dialog.id} {letter}".encode())])
    for turn, heard in said:
        if turn.speaker == letter:
            at = round((turn.start + turn.lead) * RATE)
            signal[at : at + len(heard.samples)] += heard.samples
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


def _looks(dialog: Dialog, letter: str, said: Sequence[tuple[Turn, Speech]], frames: int, seed: int) -> list[Look]:
    parts = [
        Part(
            start=turn.start,
            end=turn.end,
            face=turn.face,
            strength=script.FACE,
            phonemes=moved(heard.phonemes, turn.start + turn.lead),
        )
        for turn, heard in said
        if turn.speaker == letter
    ]
    return looks(parts, frames, FPS, Random(f"{seed} blinks {dialog.id} {letter}"))


def _split_screen(faces: Sequence[tuple[Actor, Sequence[Look]]]) -> Iterator[NDArray[np.uint8]]:
    """The frames (480, 720, 3) uint8 RGB: the actors side by side."""
    (left, left_looks), (right, right_looks) = faces
    for index, looks_ in enumerate(zip(left_looks, right_looks, strict=True)):
        t = float(index / FPS)
        yield np.concatenate([left.picture(looks_[0], t), right.picture(looks_[1], t)], axis=1)
