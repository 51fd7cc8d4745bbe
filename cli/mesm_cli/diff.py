"""mesm-data diff."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_data.errors import MesmError

SHOWN = 5


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A dataset.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another dataset.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all differences as JSON lines.")] = False,
) -> None:
    """Show which utterances, labels, transcripts, sounds and faces differ between two datasets or releases.

    The manifests are compared; no shard is read. Exit code 1 if anything differs.

    \b
    Examples:
      mesm-data diff /data/iemocap-2025 /data/iemocap-2026
      mesm-data diff /data/a /data/b --json | jq 'select(.aspect == "label emotion")'
    """
    from mesm_data.integrity.diff import compare_datasets

    comparison = compare_datasets(first, second)
    if as_json:
        for one in comparison.differences:
            line = {"key": one.key, "aspect": one.aspect, "first": one.first, "second": one.second}
            console.show(json.dumps(line, ensure_ascii=False))
    else:
        console.show(f"{first}: {comparison.utterances[0]} utterances; {second}: {comparison.utterances[1]} utterances")
        for name, value, other in comparison.options:
            console.show(f"option {name}: {value} and {other}")
        for aspect, count in comparison.counts.items():
            console.show(f"{aspect}: {count} differ")
            some = [one for one in comparison.differences if one.aspect == aspect][:SHOWN]
            for one in some:
                console.show(f"    {one.key}: {one.first!s:.60} -> {one.second!s:.60}")
            if count > len(some):
                console.show(f"    and {count - len(some)} more")
    if comparison.differences:
        keys = len({one.key for one in comparison.differences})
        raise MesmError(f"{keys} utterances differ between {first} and {second}")
    console.say("the same utterances, labels, transcripts, sounds and faces")
