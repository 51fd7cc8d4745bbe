"""mesm-train flops and sweep: what a model costs, and what p does to it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.settings import complete_recipe

Sets = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set model.sparse.p=.5")]

sweep = typer.Typer(help="Train one recipe several times with another value of a setting.", no_args_is_help=True)


def flops(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.", autocompletion=complete_recipe)],
    faces: Annotated[int, typer.Option(help="Face crops of the utterance; 9 are 4.5 s.")] = 9,
    pieces: Annotated[int, typer.Option(help="Its pieces of sound of 0.4 s; 12 are 4.5 s.")] = 12,
    tokens: Annotated[int, typer.Option(help="Its tokens.")] = 20,
    sets: Sets = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count the multiply-adds (MAC; 1 MAC = 2 FLOP) of a forward pass over one utterance, by part.

    fe2e counts by formula, with every tap of a convolution, those on padding too. mesm counts the pairs of active
    sites that a freshly initialised model really has on random input; a run's report counts those of its trained one.

    \b
    Examples:
      mesm-train flops iemocap-mesm
      mesm-train flops iemocap-mesm --set model.sparse.p=.5 --faces 20 --pieces 25 --json
    """
    from dataclasses import replace

    from mesm_train.config.settings import load_recipe
    from mesm_train.models.flops import dense_macs, encoder_sizes, fresh_macs

    config = load_recipe(recipe, sets or ())
    encoder = encoder_sizes(config.text) if "t" in config.model.modalities else None
    amounts = {"faces": faces, "pieces": pieces, "tokens": tokens}
    models = {"fe2e": dense_macs(replace(config.model, kind="fe2e"), encoder, **amounts)}
    kept: dict[str, list[float]] = {}
    if config.model.kind == "mesm":
        models["mesm"], kept = fresh_macs(config.model, encoder, **amounts)
    if as_json:
        result = {"input": amounts, "unit": "MAC", "p": config.model.sparse.p, "models": models, "kept": kept}
        console.show(json.dumps(result, indent=2))
        return
    console.show(f"million MAC of one utterance: {faces} faces, {pieces} pieces of sound, {tokens} tokens")
    console.show("".join(f"{cell:>14}" for cell in ("part", *models)))
    for part in [*dict.fromkeys(part for model in models.values() for part in model)]:
        cells = (f"{model[part] / 1e6:.2f}" if part in model else "-" for model in models.values())
        console.show("".join(f"{cell:>14}" for cell in (part, *cells)))
    totals = {name: sum(parts.values()) for name, parts in models.items()}
    console.show("".join(f"{cell:>14}" for cell in ("total", *(f"{total / 1e6:.2f}" for total in totals.values()))))
    for modality, shares in kept.items():
        console.show(f"{modality}: its blocks keep {', '.join(f'{share:.3f}' for share in shares)} of all sites")


@sweep.callback()
def _sweep() -> None:
    """Train one recipe several times with another value of a setting."""


@sweep.command("p")
@console.when_stopped(console.RESUMES)
def sweep_p(
    recipe: Annotated[str, typer.Argument(help="A recipe of kind mesm.", autocompletion=complete_recipe)] = "demo-mesm",
    data: Annotated[str | None, typer.Option(help="The folder of a dataset.")] = None,
    values: Annotated[str, typer.Option(help="The values of p, with commas.")] = "1,.9,.8,.7,.5,.3,.1",
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs (default: runs/NAME-p).")] = None,
) -> None:
    """Show p against operations, time and F1 (Figure 5 of the paper): a table, OUT/sweep.csv and OUT/sweep.png.

    Runs that have ended are not done again; a stopped one goes on with the same command.

    \b
    Example:
      mesm-train sweep p iemocap-mesm --data /data/iemocap --values .9,.7,.5,.3 --out runs/sweep
    """
    from mesm_data.errors import InputError
    from mesm_train.config.settings import load_recipe

    try:
        chosen = sorted({float(value) for value in values.split(",")}, reverse=True)
    except ValueError:
        raise InputError(f"--values {values!r}: expected numbers above 0 and at most 1, as in .9,.7,.5") from None
    changes = [*(sets or ()), *([f"data={json.dumps(data)}"] if data else [])]
    configs = {f"p-{p:g}": load_recipe(recipe, [*changes, f"model.sparse.p={p}"]) for p in chosen}
    place = out or Path("runs") / f"{next(iter(configs.values())).name}-p"
    from mesm_cli.run import StopFlag
    from mesm_data.storage.files import atomic_write
    from mesm_train.analysis import sweep as library
    from mesm_train.report.figures import sweep_figure
    from mesm_train.training.progress import Bar, Lines

    stop = StopFlag()
    rows = library.sweep(configs, place, stop=stop, watcher=Bar() if sys.stderr.isatty() else Lines())
    if rows is None:
        raise console.Stopped
    library.write_csv(place / "sweep.csv", rows)
    with atomic_write(place / "sweep.png") as file:
        file.write(sweep_figure(rows))
    table = [library.HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        console.show("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    console.say(f"{place / 'sweep.csv'}, {place / 'sweep.png'}")
