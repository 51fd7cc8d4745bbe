"""The face of an actor at each frame of a video: the mouth follows the phonemes, the expression follows the turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random

import numpy as np
from numpy.typing import NDArray

from mesm_data.synthetic.actor import Look
from mesm_data.synthetic.phonemes import mouth
from mesm_data.synthetic.speech import Span

RAMP_IN, RAMP_OUT = 0.25, 0.35  # seconds in which an expression builds up before its turn, and fades after it
STEP = 0.005  # seconds; resolution of the mouth's movement
INERTIA = 0.06  # seconds over which the mouth's targets are averaged: shorter than a /p/ of 70 ms, so lips still close
BLINK = 0.22  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One turn of the actor: the expression `face` from `start` to `end`. All times are seconds of the video."""

    start: float
    end: float
    face: str
    strength: float
    phonemes: tuple[Span, ...]


def plan_looks(parts: Sequence[Part], frames: int, fps: Fraction, rng: Random) -> list[Look]:
    """Return the look at each frame. Between the parts the face is neutral, with closed mouth, and blinks."""
    times = np.arange(frames) / float(fps)
    jaw, round_ = _mouth(parts, times)
    blink = _blinks(times, rng)
    strength, faces = _expression(parts, times)
    return [
        Look(
            emotion=faces[i],
            strength=float(strength[i]),
            jaw=float(jaw[i]),
            round=float(round_[i]),
            blink=float(blink[i]),
        )
        for i in range(frames)
    ]


def _expression(parts: Sequence[Part], times: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    """Return, for each time, the strength and the name of the strongest expression."""
    strength, faces = np.zeros(len(times)), ["neu"] * len(times)
    for part in (part for part in parts if part.face != "neu"):
        corners = [part.start - RAMP_IN, part.start, part.end, part.end + RAMP_OUT]
        shown = np.interp(times, corners, [0, part.strength, part.strength, 0])
        for index in np.flatnonzero(shown > strength):
            faces[index] = part.face
        strength = np.maximum(strength, shown)
    return strength, faces


def _mouth(parts: Sequence[Part], times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return jaw and rounding, each (n,) 0 to 1: the phonemes' targets, averaged over INERTIA."""
    steps = np.arange(0, (times[-1] if len(times) else 0) + 1, STEP)
    targets = np.zeros((2, len(steps)))
    for part in parts:
        for phoneme in part.phonemes:
            targets[:, round(phoneme.start / STEP) : round(phoneme.end / STEP)] = np.reshape(
                mouth(phoneme.name), (2, 1)
            )
    kernel = np.full(round(INERTIA / STEP), STEP / INERTIA)
    jaw, round_ = (np.interp(times, steps, np.convolve(row, kernel, mode="same")) for row in targets)
    return jaw, round_


def _blinks(times: NDArray[np.float64], rng: Random) -> NDArray[np.float64]:
    """Return how far the lids are closed, (n,) 0 (open) to 1: a blink every 2 to 5 s."""
    closed = np.zeros(len(times))
    at = rng.uniform(0.5, 3.0)
    while len(times) and at < times[-1]:
        closed = np.maximum(closed, np.clip(1 - np.abs(times - at) / (BLINK / 2), 0, 1))
        at += rng.uniform(2.0, 5.0)
    return closed
