"""The page of one utterance: faces, spectrogram, waveform, words that follow the sound, label and every rater."""

from typing import Any

from mesm_data.dataset.reader import Dataset
from mesm_data.pages.media import png_uri, sampled, sound_uri, spectrogram, waveform
from mesm_data.pages.page import render

MAX_FACES = 40


def render_sample(dataset: Dataset, key: str) -> str:
    """The page of the utterance `key`. Raises KeyError if it was not built."""
    sample, row, schema = dataset[key], dataset.rows[key], dataset.schema
    record = sample.record
    length = len(sample.samples) / sample.sample_rate
    interval = float(dataset.info["recipe"]["frame_interval"])
    times = [float(time) for time in record["faces"]["times"]]
    seconds = max(length, times[-1] + interval if times else 0, 0.01)
    labels = {name: value for name, value in row["labels"].items() if name != "raters"}
    return render(
        "mesm_data.browse",
        "sample.html",
        script=True,
        key=key,
        row=row,
        synthetic=dataset.info["synthetic"],
        titles={value: title for scheme in schema.labels.values() for value, title in scheme.values.items() if title},
        seconds=seconds,
        faces=_faces(sample.faces, times, record["faces"]["detected"], interval, seconds),
        words=_words(sample.text, record["words"] or []),
        sound=sound_uri(sample.samples, sample.sample_rate),
        spectrogram=png_uri(spectrogram(sample.samples, sample.sample_rate)) if len(sample.samples) else None,
        waveform=waveform(sample.samples),
        sound_width=100 * length / seconds,
        labels={name: ", ".join(value) if isinstance(value, list) else value for name, value in labels.items()},
        raters=row["labels"].get("raters") or [],
        rated=schema.ratings,
        sources=record["sources"],
    )


def _faces(
    faces: Any, times: list[float], detected: list[bool], interval: float, seconds: float
) -> list[dict[str, Any]]:
    numbers = sampled(len(faces), MAX_FACES)
    ends = [times[number] for number in numbers[1:]] + [min(seconds, times[-1] + interval)] if numbers else []
    return [
        {
            "uri": png_uri(faces[number]), "start": times[number], "end": end, "detected": detected[number],
            "left": 100 * times[number] / seconds, "width": 100 * (end - times[number]) / seconds,
        }
        for number, end in zip(numbers, ends, strict=True)
    ]  # fmt: skip


def _words(text: str, timed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The words of the transcript with the times of the alignment; the aligned words where the numbers differ."""
    words = text.split()
    if not timed:
        return [{"word": word, "start": None, "end": None} for word in words]
    names = words if len(words) == len(timed) else [word["w"] for word in timed]
    return [{"word": name, "start": word["t0"], "end": word["t1"]} for name, word in zip(names, timed, strict=True)]
