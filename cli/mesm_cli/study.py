"""mesm-train flops, sweep and explain: what a model costs, what p does to it, where it looks."""

import json
import re
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
        found = {"input": amounts, "unit": "MAC", "p": config.model.sparse.p, "models": models, "kept": kept}
        console.show(json.dumps(found, indent=2))
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
    given = [*(sets or ()), *([f"data={json.dumps(data)}"] if data else [])]
    configs = {f"p-{p:g}": load_recipe(recipe, [*given, f"model.sparse.p={p}"]) for p in chosen}
    place = out or Path("runs") / f"{next(iter(configs.values())).name}-p"
    from mesm_cli.run import StopFlag
    from mesm_data.storage.files import atomic_write
    from mesm_train.analysis import sweep as library
    from mesm_train.report.pictures import sweep_figure
    from mesm_train.training.progress import BarLogger, LineLogger

    stop = StopFlag()
    rows = library.sweep(configs, place, stop=stop, logger=BarLogger() if sys.stderr.isatty() else LineLogger())
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


def explain(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that has ended.")],
    keys: Annotated[str | None, typer.Option(help="Utterances, with commas; else one of each class.")] = None,
    part: Annotated[
        str, typer.Option("--split", help="Where those without --keys come from: train, valid or test.")
    ] = "test",
    data: Annotated[str | None, typer.Option(help="Another dataset that holds the utterances.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Another split or labels: --set split=…")] = None,
) -> None:
    """Show where a model looked: the sites that its sparse blocks kept, over faces and spectrograms, in RUN/looks/.

    \b
    Examples:
      mesm-train explain runs/demo-mesm
      mesm-train explain runs/demo-mesm --keys Ses01F_impro01_F000,Ses01F_impro01_M001
    """
    from mesm_data.errors import InputError
    from mesm_data.storage.files import atomic_write
    from mesm_train.report import pictures
    from mesm_train.report import site_selection as looks
    from mesm_train.runs import run as runs

    if part not in ("train", "valid", "test"):
        raise InputError(f"--split {part!r}: expected train, valid or test")
    setup = runs.load_run(path, data=data, parts=() if keys else (part,), sets=sets or ())
    chosen = keys.split(",") if keys else runs.example_keys(setup, part)
    for key in chosen:
        if key not in setup.loader.targets:
            reason = "its label is not among the classes" if key in setup.dataset.rows else "there is no such utterance"
            raise InputError(f"--keys {key}: {reason} in {setup.dataset.path} with labels {setup.config.labels!r}")
    (path / "looks").mkdir(exist_ok=True)
    batch = setup.loader.batch(chosen)
    for one in looks.look(setup.model.eval(), batch, frame_interval=setup.frame_interval):
        if not one.strips:
            console.say(f"{one.key}: it has neither faces nor sound to show")
            continue
        place = path / "looks" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', one.key)}.png"
        with atomic_write(place) as file:
            file.write(pictures.sheet(one.key, one.strips))
        console.show(place)
