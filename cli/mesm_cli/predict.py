"""mesm-train predict."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesm_cli.progress_bar import ProgressBar
from mesm_data.errors import InputError, MesmError
from mesm_data.storage.progress import no_step

if TYPE_CHECKING:
    from mesm_train.inference.clips import Clip
    from mesm_train.inference.predictor import Predictor
    from mesm_train.inference.result import Failure, Prediction
    from mesm_train.inference.transcripts import TextSource


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, an exported one, or a model of the Hub.")],
    clips: Annotated[list[str], typer.Argument(metavar="CLIP...", help="Video and audio files, folders, patterns.")],
    text: Annotated[str | None, typer.Option(help="What is said in the clip.")] = None,
    subtitles: Annotated[
        Path | None, typer.Option("--srt", "--vtt", help="Subtitles: a prediction for each of them.")
    ] = None,
    words: Annotated[Path | None, typer.Option(help="The words with their times: JSON, CSV or tab-separated.")] = None,
    align: Annotated[bool, typer.Option("--align", help="Find the times of the text's words (English).")] = False,
    whisper: Annotated[
        Path | None, typer.Option(metavar="MODEL_DIR", help="Recognise the words by the Whisper model in this folder.")
    ] = None,
    start: Annotated[float, typer.Option(min=0, help="Where the clip begins, in seconds.")] = 0,
    end: Annotated[float | None, typer.Option(help="Where it ends; by default the file's end.")] = None,
    window: Annotated[float | None, typer.Option(metavar="SECONDS", help="Predict windows of this length.")] = None,
    step: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="From window to window; by default half of one.")
    ] = None,
    timeline: Annotated[Path | None, typer.Option(help="Draw predictions over time: .png, .svg or .pdf.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Another file that holds the sound, on the same clock.")] = None,
    channel: Annotated[
        int | None, typer.Option(min=1, help="The channel of the sound, from 1; by default all.")
    ] = None,
    face: Annotated[
        str | None,
        typer.Option(help="Whose face: left or right (half of the picture), N (from the left); default: the largest."),
    ] = None,
    face_model: Annotated[
        Path | None, typer.Option(help="The model file of the face detector, if the training data used one.")
    ] = None,
    glove: Annotated[
        Path | None, typer.Option(help="The text file of GloVe that the training data's features come from, if any.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Predict also without a modality that training always had.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write a table: .jsonl, .csv or .parquet.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    device: Annotated[str, typer.Option(help="As torch names it; auto: a graphics card if there is one.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Files that are decoded at a time.")] = 1,
) -> None:
    """Predict clips with a trained model. It needs the run's folder, not its dataset.

    Without --text and the like, the text of CLIP.mp4 is read from CLIP.srt, CLIP.vtt or CLIP.txt beside it. A clip that
    lacks a modality is predicted without it, and that is noted, if the training data had such utterances.

    \b
    Examples:
      mesm-train predict runs/demo-fe2e clip.mp4 --text "I can't believe it!"
      mesm-train predict runs/demo-fe2e talk.mp4 --srt talk.srt --out talk.csv
      mesm-train predict runs/demo-fe2e talk.mp4 --srt talk.srt --window 4 --timeline talk.png
      mesm-train predict runs/demo-fe2e clips/ "more/*.mkv" --face left --out predictions.parquet
    """
    from mesm_train.inference import output, timeline_figure
    from mesm_train.inference.clips import Clip
    from mesm_train.inference.load import load
    from mesm_train.inference.media_paths import find_clips
    from mesm_train.inference.result import Failure, Prediction
    from mesm_train.inference.speech_recognition import Whisper
    from mesm_train.inference.transcripts import TextSource

    paths = find_clips(clips)
    whole = {"path": paths[0], "start": start, "end": float("inf") if end is None else end}
    common = Clip(**whole, audio=audio, channel=channel, face=_face(face))  # type: ignore[arg-type]
    if out:
        output.check_output(out)
    if timeline:
        timeline_figure.check_figure(timeline)
    recognise = Whisper(whisper).words if whisper else None
    source = TextSource(text=text, subtitles=subtitles, words=words, align=align, recognise=recognise)
    if len(paths) > 1 and (source.is_of_one_clip or audio or timeline):
        raise InputError(
            f"{len(paths)} clips: --text, --srt, --words, --audio and --timeline are of one clip. The text of several "
            "clips is read from the files beside them: NAME.srt, NAME.vtt or NAME.txt"
        )
    if step is not None and window is None:
        raise InputError("--step goes with --window")
    model = load(run, device=device, face_model=face_model, glove=glove)
    lengths = (window, step or window / 2) if window is not None else None
    results: list[Prediction | Failure] = []
    with ProgressBar("clip", leave=False) as bar:
        for result in _predict_files(model, common, paths, source, lengths, allow_missing, workers, bar):
            results.append(result)
            if as_json:
                bar.show(output.as_line(result))
            elif isinstance(result, Failure):
                bar.say(f"failed: {result.reason}")
            else:
                bar.show(result)
    predictions = [result for result in results if isinstance(result, Prediction)]
    if out:
        output.write(out, results)
    if timeline:
        timeline_figure.write_timeline(timeline, predictions)
    if failed := len(results) - len(predictions):
        others = "; all others were" if failed < len(results) else ""
        raise MesmError(f"{failed} of {len(results)} clips were not predicted{others}")


def _predict_files(
    model: "Predictor",
    common: "Clip",
    paths: list[Path],
    source: "TextSource",
    lengths: tuple[float, float] | None,
    allow_missing: bool,
    workers: int,
    bar: ProgressBar,
) -> "Iterator[Prediction | Failure]":
    """The predictions of all files in their order; `bar` shows how many there are on a terminal."""
    from dataclasses import replace

    from mesm_train.inference.result import Failure
    from mesm_train.inference.transcripts import with_text
    from mesm_train.inference.windows import windows

    clips: list[Clip] = []
    failures: dict[int, Failure] = {}
    recipe = model.spec.media_recipe()
    for path in paths:
        clip = replace(common, path=path)
        try:
            stretches = with_text(clip, source, recipe, whole=lengths is not None)
            if lengths:
                stretches = [
                    stretch for whole in stretches for stretch in windows(whole, seconds=lengths[0], step=lengths[1])
                ]
            clips += stretches
        except MesmError as error:
            if len(paths) == 1:
                raise
            failures[len(clips) + len(failures)] = Failure(clip=clip, reason=str(error))
    total = len(clips) + len(failures)
    step = bar("predict", total, total) if sys.stderr.isatty() else no_step
    predicted = model.predict_clips(clips, allow_missing=allow_missing, workers=workers, progress=step)
    for number in range(total):
        yield failures[number] if number in failures else next(predicted)


def _face(name: str | None) -> "int | str | None":
    """left, right or a number."""
    if name is None or name in ("left", "right"):
        return name
    if name.isdecimal() and int(name) >= 1:
        return int(name)
    raise InputError(f"--face {name}: expected left, right, or a number from 1")
