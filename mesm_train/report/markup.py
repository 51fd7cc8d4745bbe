"""HTML elements as values. Text is escaped where it enters an element, so nobody has to remember to."""

from collections.abc import Iterable
from html import escape

VOID = ("img", "source", "meta", "br")


class Html(str):
    """Markup. Any other text is escaped."""

    __slots__ = ()


def el(name: str, /, *inner: object, **attributes: object) -> Html:
    """`<name attributes>inner</name>`; an attribute's last `_` is dropped (`class_`), one that is None is left out."""
    said = "".join(f' {key.rstrip("_")}="{escape(str(v))}"' for key, v in attributes.items() if v is not None)
    return Html(f"<{name}{said}>" if name in VOID else f"<{name}{said}>{join(inner)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """The parts behind each other."""
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in parts))


def table(
    head: Iterable[object],
    rows: Iterable[Iterable[object]],
    foot: Iterable[object] = (),
    class_: str | None = None,
) -> Html:
    """The first cell of a row names it, the others are numbers, aligned right; a `<td>` is taken as it is."""
    return el(
        "table",
        el("thead", _row("th", head, "col")),
        el("tbody", *(_row("td", row) for row in rows)),
        el("tfoot", _row("td", last)) if (last := list(foot)) else "",
        class_=class_,
    )


def _row(name: str, cells: Iterable[object], scope: str | None = None) -> Html:
    first, *others = [*cells]
    return el("tr", el("th", first, scope=scope or "row"), *(_cell(name, cell, scope) for cell in others))


def _cell(name: str, inner: object, scope: str | None) -> Html:
    return inner if isinstance(inner, Html) and inner.startswith("<td") else el(name, inner, scope=scope)
