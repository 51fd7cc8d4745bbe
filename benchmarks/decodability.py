"""How much of the emotion each modality of a dataset gives away, by simple classifiers on held-out speakers.

    python benchmarks/decodability.py DATASET

Six classes (CMU-MOSEI: the emotion rated highest); one session (two speakers), or a fifth of the videos, is held out at
a time. Text: word counts; sound: statistics of log-mel bands
and of their changes; face: gradients of the crops; together: the sum of the three log-probabilities. It is meant for
the synthetic corpus, whose emotion must be decodable, but not perfectly, from each modality alone.
"""

import argparse
import json
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from skimage.feature import hog
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample

CLASSES = {
    "iemocap": ("ang", "exc", "fru", "hap", "neu", "sad"),
    "mosei": ("anger", "disgust", "fear", "happiness", "sadness", "surprise"),
}
FRAME, HOP, BANDS = 400, 200, 40


def mel_filters() -> NDArray[np.float64]:
    """(FRAME // 2 + 1, BANDS) triangles, equally spaced on the mel scale from 60 to 8000 Hz."""
    mel = np.linspace(1127 * np.log1p(60 / 700), 1127 * np.log1p(8000 / 700), BANDS + 2)
    edges = 700 * np.expm1(mel / 1127)
    bins = np.arange(FRAME // 2 + 1)[:, None] * 16_000 / FRAME
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


FILTERS = mel_filters()


def sound(sample: Sample) -> NDArray[np.float64]:
    """Statistics over time of log-mel energies, their differences, the pitch (by autocorrelation) and the loudness."""
    wave = sample.samples.astype(float) / 32768
    frames = np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames)) ** 2
    mel = np.log(power @ FILTERS + 1e-8)
    lags = np.fft.irfft(np.abs(np.fft.rfft(frames, 1024)) ** 2)[:, 32:267]  # 60 to 500 Hz
    pitch = np.log(16_000 / (32 + lags.argmax(1)))
    loud = np.log((frames**2).mean(1) + 1e-8)
    voiced = loud > np.median(loud)
    tracks = [*mel.T, *np.diff(mel, axis=0).T, np.diff(pitch[voiced]), loud]
    statistics = [value for track in tracks for value in (track.mean(), track.std())]
    voice = np.percentile(pitch[voiced], [10, 25, 50, 75, 90])
    rate = len(sample.text.split()) / (len(wave) / 16_000)
    return np.array([*statistics, *voice, voice[-1] - voice[0], rate])


def face(sample: Sample) -> NDArray[np.float64]:
    """Histograms of gradients, the mean over the crops."""
    crops = sample.faces.mean(axis=3) / 255
    cells = [hog(crop, orientations=8, pixels_per_cell=(6, 6), cells_per_block=(2, 2)) for crop in crops]
    return np.mean(cells, axis=0)


def log_probabilities(
    features: NDArray[np.float64], truth: NDArray[np.int64], session: NDArray[np.str_]
) -> NDArray[np.float64]:
    """(n, 6), each row from a linear classifier that has not seen its session or video."""
    result = np.empty((len(truth), 6))
    for held_out in np.unique(session):
        test = session == held_out
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        result[test] = classifier.fit(features[~test], truth[~test]).predict_log_proba(features[test])
    return result


def label(sample: Sample) -> str | None:
    """The class of an utterance, which may be none of the six."""
    labels = sample.record["labels"]
    if sample.record["corpus"] == "iemocap":
        return str(labels["emotion"])
    emotions: dict[str, float] = {name: labels[name] or 0.0 for name in CLASSES["mosei"]}
    return max(emotions, key=lambda name: emotions[name]) if any(emotions.values()) else None


def group(sample: Sample) -> str:
    """What is held out together: a session, or a fifth of the videos."""
    speaker = sample.record["speaker"]
    return str(speaker[:5]) if sample.record["corpus"] == "iemocap" else f"fifth {crc32(speaker.encode()) % 5}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, nargs="?", default=Path("demo/iemocap-shards"))
    dataset = Dataset(parser.parse_args().dataset)
    classes = CLASSES[dataset.info["corpus"]]
    samples = [s for s in dataset if label(s) in classes and len(s.faces) and len(s.samples) > 2 * FRAME]
    truth = np.array([classes.index(label(sample) or "") for sample in samples])
    session = np.array([group(sample) for sample in samples])
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform([s.text for s in samples]).toarray()
    log_probabilities_of = {
        "text": log_probabilities(words, truth, session),
        "audio": log_probabilities(np.stack([sound(s) for s in samples]), truth, session),
        "face": log_probabilities(np.stack([face(s) for s in samples]), truth, session),
    }
    log_probabilities_of["all three"] = sum(log_probabilities_of.values(), np.zeros(()))
    accuracy = {
        name: round(float((scores.argmax(1) == truth).mean()), 3) for name, scores in log_probabilities_of.items()
    }
    kind = "synthetic" if dataset.info["synthetic"] else "real"
    print(f"{kind} {dataset.info['corpus']}, root {dataset.info['root'][:12]}: {len(samples)} utterances, ", end="")
    print(f"{len(set(session))} groups held out in turn, chance {1 / len(classes):.3f}")
    print(json.dumps({"accuracy": accuracy}))


if __name__ == "__main__":
    main()
