"""The published way to prepare and use the pictures of IEMOCAP, as far as it costs time: a baseline for ../build.py.

    python benchmarks/baselines/notebook_way.py CORPUS OUT

Preparing (the notebook of Dai et al. 2021): each utterance's part of the video is read with OpenCV, and of every frame
both halves are cut to 224 x 224 pixels and written as JPEG; the sound is cut into three wav files. Training: in every
forward pass MTCNN looks at the speaker's frames, two a second (every 15th). Here the detector is this project's,
looking for faces of 20 pixels and more as theirs does by default, so that it is not detectors that are compared;
theirs, in PyTorch, was not run. Detection is timed on a part of the frames.
Prints JSON: CPU seconds `prepare` and `epoch`, `bytes`, `looked`.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is imported

import argparse
import json
import resource
import shutil
from pathlib import Path

import cv2
import numpy as np
import soundfile

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.media.faces.mtcnn import MtcnnDetector
from mesm_data.schema.recordings import Recording, Utterance

SIDE = 224
STEP = 15  # frames between two that the model looks at
LOOK = 150  # frames that detection is timed on


def cpu() -> float:
    """User and system time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def prepare(root: Path, recording: Recording, utterance: Utterance, out: Path) -> int:
    """Write the pictures and sounds of one utterance; returns the number of frames."""
    out.mkdir(parents=True)
    assert recording.video
    video = cv2.VideoCapture(str(root / recording.video))
    rate = video.get(cv2.CAP_PROP_FPS)
    video.set(cv2.CAP_PROP_POS_FRAMES, int(utterance.start * rate))
    count = 0
    while count < int((utterance.end - utterance.start) * rate):
        read, frame = video.read()
        if not read:
            break
        for side, left in (("L", 0), ("R", frame.shape[1] // 2)):
            half = frame[:, left : left + frame.shape[1] // 2]
            top, edge = (half.shape[0] - SIDE) // 2, (half.shape[1] - SIDE) // 2
            cv2.imwrite(str(out / f"image_{side}_{count}.jpg"), half[top : top + SIDE, edge : edge + SIDE])
        count += 1
    video.release()
    sound = next(root / source.path for source in utterance.audio if source.span)
    samples, sample_rate = soundfile.read(sound, dtype="int16", always_2d=True)
    part = samples[int(utterance.start * sample_rate) : int(utterance.end * sample_rate)]
    for name, channels in (("audio", part), ("audio_L", part[:, 0]), ("audio_R", part[:, -1])):
        soundfile.write(out / f"{name}.wav", channels, sample_rate)
    return count


def detection(pictures: list[Path]) -> float:
    """CPU seconds that the detector takes for a picture read from its JPEG, on average."""
    detector = MtcnnDetector(min_face_size=20)
    before = cpu()
    for path in pictures:
        detector.detect(np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]))
    return (cpu() - before) / len(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    shutil.rmtree(arguments.out, ignore_errors=True)
    corpus = scan_corpus("iemocap", arguments.corpus)
    before, looked = cpu(), 0
    pictures = []
    for recording in corpus.recordings:
        for utterance in recording.utterances:
            frames = prepare(corpus.root, recording, utterance, arguments.out / recording.id / utterance.id)
            side = "L" if utterance.region.left == 0 else "R"
            folder = arguments.out / recording.id / utterance.id
            chosen = [folder / f"image_{side}_{number}.jpg" for number in range(0, frames, STEP)]
            looked += len(chosen)
            pictures += chosen
    prepared = cpu() - before
    each = detection(pictures[:: max(1, len(pictures) // LOOK)])
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(json.dumps({"prepare": prepared, "epoch": each * looked, "bytes": size, "looked": min(LOOK, looked)}))


if __name__ == "__main__":
    main()
