"""RUN/report.html: one page, without scripts and without anything from elsewhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from mesm_data.splits.resolve import PARTS
from mesm_data.storage.files import atomic_write
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.data.batch import Batch
from mesm_train.models.fe2e_mesm import Model
from mesm_train.report import costs, pictures, scores
from mesm_train.report import site_selection as looks
from mesm_train.report.markup import Html, el
from mesm_train.report.record import Record, read

SYNTHETIC = (
    "A program made this corpus. The numbers on this page say nothing about people, and stand beside no published "
    "number."
)
LEAKED = "What the model scores on test may rest on what it knows of these from training."
FLATTERING = "In each validation the thresholds are chosen on the very part that is scored, which flatters its F1."
WEIGHED = "The train loss weighs what is true of a class by its false / true, the validation loss does not."
LAID_OUT = (
    f"The first {looks.SHOWN:g} s of some utterances, laid out in time: the faces, and pieces of sound of "
    f"{looks.PIECE:g} s with low tones below. The last piece of sound is filled up with silence."
)
SHADED = (
    "Below them is what each sparse block kept, in colour. Grey is what it dropped; nearly black is what it could not "
    "choose, because an earlier block had dropped all of it."
)
LICENSED = "This page holds pictures, sound and transcripts of the corpus. Whoever gets it must hold its licence"
WITHOUT = "A report without them: --set report.media=false."
UNTRAINED = (
    "With the selection “published” the attention that chooses gets no gradient and stays as it was initialised: that "
    "a site was kept is no evidence that the model found it important."
)


def write(
    run: Path,
    *,
    model: Model | None,
    batch: Batch | None,
    texts: Mapping[str, str] | None,
    frame_interval: float = 0.5,
) -> Path:
    """Write RUN/report.html and the pictures on it, as far as the run has come; returns its path.

    Args:
        run: the folder of a run. What is missing in it is said on the page.
        model: with the weights of the best epoch, in evaluation mode; None: no looks.
        batch: a handful of utterances to look at; None: no looks.
        texts: their transcripts by key, as far as they are to be shown.
        frame_interval: the time between two faces in seconds, as the dataset's recipe says.

    Besides it writes RUN/curves.png and, for each utterance, RUN/looks-<key>.png. Raises InputError if there is no
    folder `run`.
    """
    record = read(run)
    seen = []
    if model is not None and batch is not None:
        seen = looks.look(model, batch, frame_interval=frame_interval)
    weights = looks.fusion(model) if model is not None else {}
    drawn = {theme: _curves(record, theme) for theme in (pictures.LIGHT, pictures.DARK)} if record.train else {}
    _save(run / "curves.png", drawn.get(pictures.LIGHT))
    for one in seen:
        # A key names a file here, and must not lead out of the folder.
        _save(run / f"looks-{re.sub(r'[^A-Za-z0-9._-]', '_', one.key)}.png", pictures.sheet(one.key, one.strips))
    if not seen:
        for picture in run.glob("looks-*.png"):  # of an earlier report
            picture.unlink()
    path = run / "report.html"
    _save(path, render(record, tuple(drawn.values()), seen, weights, texts or {}).encode())
    return path


def render(
    record: Record,
    drawn: Sequence[bytes],
    seen: Sequence[looks.Seen],
    weights: Mapping[str, float],
    texts: Mapping[str, str],
) -> str:
    """The page. `drawn`: the curves as PNGs for light and dark, or none; `weights`: of the fusion, see looks.fusion."""
    style = files("mesm_train.report").joinpath("style.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", f"{record.name}: report of a run"),
        el("style", Html(style)),
    )
    sections = (
        *_top(record),
        *scores.section(record),
        *_training(record, drawn),
        *_looks(record, seen, weights, texts),
        *costs.section(record),
        *_provenance(record),
    )
    return f"<!doctype html>\n{el('html', head, el('body', *sections), lang='en')}\n"


def _top(record: Record) -> Iterator[Html]:
    dataset, split = record.provenance.get("dataset", {}), record.provenance.get("split", {})
    yield el("h1", record.name)
    if dataset:
        kind = record.settings.get("model", {}).get("kind", "a model")
        view = record.provenance.get("labels", {}).get("view")
        held = split.get("counts", {})
        counts = ", ".join(f"{part} {held[part]}" for part in PARTS if part in held)
        words = f"{kind} on {dataset['corpus']}, label view {view} ({len(record.classes)} classes). "
        yield el("p", words, f"Split {split.get('name')}: {counts} utterances.", class_="lead")
    if dataset.get("synthetic"):
        yield el("p", el("strong", "SYNTHETIC DATA"), SYNTHETIC, class_="synthetic")
    elif "synthetic" not in dataset:
        yield el("p", "It is not recorded whether the data are real or synthetic.", class_="synthetic")
    if split:
        yield el("p", leaks(split))
    if record.remarks:
        yield el("ul", *(el("li", remark) for remark in record.remarks), class_="remarks")


def leaks(split: Mapping[str, Any]) -> str:
    """What the parts of a split share, and what of it is not in the dataset, in words."""
    shared = split.get("leaks", {})
    missing = {status: count for status, count in split.get("missing", {}).items() if count}
    counts = ", ".join(_counted(shared.get(f"{kind}s", 0), kind) for kind in ("speaker", "dialog"))
    if any(shared.values()):
        pairs = _counted(shared.get("overlaps", 0), "pair")
        said = f"Its parts share {counts}; {pairs} of utterances in different parts overlap in time. {LEAKED}"
    else:
        said = "Its parts share no speaker and no dialog, and no utterances in them overlap in time."
    if missing:
        said += f" Not in the dataset: {', '.join(f'{count} {status}' for status, count in missing.items())}."
    return said


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _training(record: Record, drawn: Sequence[bytes]) -> Iterator[Html]:
    yield el("h2", "Training")
    if not drawn:
        yield el("p", "Nothing has been trained yet.")
        return
    light, dark = (pictures.data_uri(png) for png in drawn)
    words = [f"{record.train[-1]['step']} steps, {len(record.valid)} epochs validated."]
    if record.best:
        words.append(f"Dotted: epoch {record.best['epoch']} (from 0), whose weights were kept.")
    words.append(FLATTERING)
    if record.settings.get("optim", {}).get("pos_weight"):
        words.append(WEIGHED)
    speeds = sorted(line["samples_per_s"] for line in record.train if line.get("samples_per_s") is not None)
    if speeds:
        words.append(f"Median speed: {speeds[len(speeds) // 2]:.1f} utterances per second.")
    alt = "Curves over the steps: train loss, validation loss, validation macro F1 with its floor, learning rate"
    both = el("picture", el("source", srcset=dark, media="(prefers-color-scheme: dark)"), el("img", src=light, alt=alt))
    yield el("figure", both, el("figcaption", " ".join(words)))


def _looks(
    record: Record, seen: Sequence[looks.Seen], weights: Mapping[str, float], texts: Mapping[str, str]
) -> Iterator[Html]:
    yield el("h2", "What the model looks at")
    if record.settings.get("report", {}).get("media") is False:
        yield el("p", "Pictures and transcripts of the corpus are left out (report.media=false).")
        return
    if record.settings.get("model", {}).get("kind") in TWO_PHASE:
        yield el("p", "This system reads features that were computed before: there are no pictures of what it sees.")
        return
    if not seen:
        yield el("p", "No model and no utterances were given to look at.")
        return
    model = record.settings.get("model", {})
    sparse = model.get("sparse", {})
    words = [LAID_OUT]
    if model.get("kind") == "fe2e":
        words.append("This model has no sparse blocks: it computes at every site.")
    else:
        words.append(SHADED)
        words += (
            [f"A block keeps the sites that hold {100 * sparse['p']:g} % of its attention."] if "p" in sparse else []
        )
        words += [UNTRAINED] if sparse.get("selection") == "published" else []
    yield from (el("p", paragraph, class_="faint") for paragraph in words)
    yield from _licence(record)
    for one in seen:
        yield el("h3", one.key)
        if texts.get(one.key, "").strip():
            yield el("blockquote", texts[one.key])
        absent = [looks.WORDS[m] for m, amount in one.amounts.items() if not amount]
        if absent:
            yield el("p", f"It has no {' and no '.join(absent)}: these add exactly 0.", class_="faint")
        yield el("div", *(part for strip in one.strips for part in _strip(strip)), class_="strips")
        yield el("div", scores.answers(record, one, weights), class_="wide")


def _licence(record: Record) -> Iterator[Html]:
    """What may be done with a page that shows people of a licensed corpus."""
    dataset = record.provenance.get("dataset", {})
    if not dataset or dataset.get("synthetic"):
        return
    licence = dataset.get("licence", {})
    terms = " ".join(part for part in (licence.get("name"), licence.get("terms")) if part)
    issuer = f" of {licence['issuer']}" if licence.get("issuer") else ""
    named = f"{issuer}: “{terms}”" if terms else ", which its schema does not state."
    yield el("p", el("strong", "LICENSED MEDIA"), f"{LICENSED}{named} {WITHOUT}", class_="synthetic")


def _strip(strip: looks.Strip) -> tuple[Html, Html]:
    share = f"width: {100 * strip.seconds / looks.SHOWN:.4g}%; --n: {strip.count}"
    alt = f"{strip.title}, {strip.note}"
    image = el("img", src=pictures.data_uri(pictures.png(strip.pixels)), alt=alt)
    words = el("div", strip.title, el("span", strip.note, class_="faint"))
    return words, el("div", el("div", image, class_=f"strip {strip.modality}", style=share))


def _provenance(record: Record) -> Iterator[Html]:
    import yaml

    yield el("h2", "Provenance")
    known = ("dataset", "split", "labels", "seed", "text", "code", "environment")
    facts = {group: record.provenance[group] for group in known if group in record.provenance}
    rows = [
        el(
            "tr",
            el("th", group if first else "", scope="row"),
            el("th", name),
            el("td", value),
            class_="group" if first else None,
        )
        for group, inner in facts.items()
        for first, (name, value) in zip(chain([True], repeat(False)), _flat(inner), strict=False)
    ]
    yield el("table", el("tbody", *rows), class_="facts") if rows else el("p", "It is not recorded.")
    settings = yaml.safe_dump(dict(record.settings), sort_keys=False, allow_unicode=True)
    yield el("details", el("summary", "Complete settings"), el("pre", settings))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (name, text)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix} {key}".strip())
    elif isinstance(value, bool):
        yield prefix, "yes" if value else "no"
    else:
        yield prefix, "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _curves(record: Record, theme: pictures.Theme) -> bytes:
    return pictures.curves(record.train, record.valid, record.best["step"] if record.best else None, theme)


def _save(path: Path, content: bytes | None) -> None:
    if content is not None:
        with atomic_write(path) as file:
            file.write(content)
