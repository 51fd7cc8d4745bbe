"""What a forward pass of the run's model costs, counted, as HTML; see flops.py for what is counted."""

from collections.abc import Iterator, Mapping

from mesm_train.report.markup import Html, el, table
from mesm_train.report.record import Record
from mesm_train.report.scores import percent
from mesm_train.report.site_selection import WORDS

NOT_TIMED = "Counted, not timed: how much of it is saved in seconds depends on the implementation and the machine."


def section(record: Record) -> Iterator[Html]:
    """Multiply-adds by part of each model in operations.json, with the input that they were counted on."""
    yield el("h2", "Counted operations")
    models: Mapping[str, Mapping[str, int]] = record.operations.get("models", {})
    if not models:
        yield el("p", "Operations were not counted.")
        return
    given = ", ".join(f"{count} {name}" for name, count in record.operations.get("input", {}).items())
    totals = {name: sum(parts.values()) for name, parts in models.items()}
    unit, factor = ("billion", 1e9) if max(totals.values()) >= 1e10 else ("million", 1e6)
    rows = [
        [_part(part), *(_count(model.get(part), factor) for model in models.values())]
        for part in sorted({part for model in models.values() for part in model}, key=_place)
    ]
    words = f"Forward pass over {given or 'an input that is not stated'}: {unit} multiply-adds (each is 2 FLOP)."
    yield el("p", words, class_="faint")
    yield table(
        ["Part", *models],
        rows,
        ["Total", *(_count(total, factor) for total in totals.values())],
    )
    if totals.get("fe2e") and "mesm" in totals:
        yield el(
            "p", f"The sparse model needs {percent(totals['mesm'] / totals['fe2e'])} % of the dense one's. {NOT_TIMED}"
        )
    for modality, kept in sorted(record.operations.get("kept", {}).items(), reverse=True):
        shares = ", ".join(f"{100 * share:.0f} %" for share in kept)
        yield el("p", f"{WORDS.get(modality, modality).capitalize()}: its blocks keep {shares} of all sites.")


def _place(part: str) -> tuple[int, int]:
    """Parts in the order of the computation; operations.json has them by name."""
    modality, _, inner = part.partition(".")
    inside = ("", "stem", "blocks", "attention", "head", "sequence")
    return ("text", "t", "v", "a", modality).index(modality), inside.index(inner) if inner in inside else len(inside)


def _part(name: str) -> str:
    modality, _, inner = name.partition(".")
    return f"{WORDS[modality].capitalize()}: {inner}" if modality in WORDS and inner else name.capitalize()


def _count(value: int | None, factor: float) -> str:
    return "–" if value is None else f"{value / factor:,.2f}"
