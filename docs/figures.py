"""The picture on top of the README: an utterance, its words, and the sites that a run of MESM keeps.

    python docs/figures.py RUN DATASET OUT.png [--key KEY]

`make demo` writes it to demo/overview.png. The picture of the README is that of the demo: synthetic data.
"""

import argparse
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_files import read_json
from mesm_train import load
from mesm_train.explain.contents import Subject, dataset_subjects, default_keys
from mesm_train.report.site_selection import Strip, predict_with_sites

SECONDS = 4.0  # of the utterance's beginning
SOUND_HEIGHT = 1.3  # inches
WIDTH, DPI = 10.0, 120  # inches, dots per inch


def draw_overview(run: Path, data: str, key: str | None) -> Figure:
    """A row for the faces, the spectrogram, and the sites that each sparse block keeps of both; the words on top."""
    predictor = load(run)
    if key is None:
        subjects = dataset_subjects(run, default_keys(run, "test", data=data), data=data)
        subject = max(subjects, key=lambda one: (_is_right(one, predictor), len(one.content.samples), one.title))
    else:
        [subject] = dataset_subjects(run, [key], data=data)
    content = subject.content
    [sites] = predict_with_sites(
        predictor.model, predictor.batch([content]), frame_interval=content.frame_interval, seconds=SECONDS
    )
    # Of each modality the input and the first block.
    strips = [strip for m in ("v", "a") for strip in [one for one in sites.strips if one.modality == m][:2]]
    end = max(strip.seconds for strip in strips)
    face = WIDTH * max((strip.seconds / strip.count for strip in strips if strip.modality == "v"), default=0.5) / end
    heights = [face if strip.modality == "v" else SOUND_HEIGHT for strip in strips]
    figure = Figure(figsize=(WIDTH, 0.8 + sum(heights) + 0.25 * len(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, strip in zip(axes, strips, strict=True):
        _draw_strip(axis, strip, end)
        axis.tick_params(bottom=axis is axes[-1], labelbottom=axis is axes[-1])
    axes[-1].set_xlabel("seconds", fontsize=8)
    is_synthetic = read_json(run / "provenance.json")["dataset"]["synthetic"]
    synthetic = "synthetic utterance" if is_synthetic else "utterance"
    figure.suptitle(f"{synthetic} {subject.title}: “{content.text}”{_answer(subject, predictor)}", fontsize=10)
    return figure


def _draw_strip(axis: Any, strip: Strip, end: float) -> None:
    axis.imshow(strip.pixels, extent=(0, strip.seconds, 0, 1), aspect="auto", interpolation="nearest")
    axis.set_xlim(0, end)
    axis.set_yticks([])
    axis.tick_params(labelsize=7)
    note = strip.note.replace("×\n", "× ").replace("\n", ", ")
    axis.set_title(f"{strip.title}: {note}", fontsize=8, loc="left")
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def _is_right(subject: Subject, predictor: Any) -> bool:
    best = predictor.predict_inputs([subject.content])[0].best
    return bool(subject.true.get(best))


def _answer(subject: Subject, predictor: Any) -> str:
    prediction = predictor.predict_inputs([subject.content])[0]
    true = [prediction.meaning(name) for name, is_true in subject.true.items() if is_true]
    predicted = prediction.meaning(prediction.best) if prediction.best else "none"
    return f"\nlabel {', '.join(true) or 'none'}, predicted {predicted}"


def main() -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--key")
    options = parser.parse_args()
    figure = draw_overview(options.run, options.data, options.key)
    with atomic_write(options.out) as file:
        figure.savefig(file, format="png", dpi=DPI)


if __name__ == "__main__":
    main()
