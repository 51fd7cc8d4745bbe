"""mesm-train flops and sweep: what a model costs, and how quality compares with it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from mesm_cli import console
from mesm_cli.settings import complete_recipe
from mesm_data.errors import InputError

N = TypeVar("N", int, float)
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

    from mesm_train.config.recipe_files import load_recipe
    from mesm_train.config.two_phase_settings import TWO_PHASE
    from mesm_train.models.flops import dense_macs, encoder_sizes, fresh_macs

    config = load_recipe(recipe, sets or ())
    if config.model.kind in TWO_PHASE:
        raise InputError(
            f"{recipe} is of kind {config.model.kind}, which reads features: its operations depend on their rows and "
            "widths. They are counted in the report of each run, and in `mesm-train compare`"
        )
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
    values: Annotated[str, typer.Option(help="The values of p, with commas.")] = ".9,.7,.5,.3",
    tile: Annotated[str | None, typer.Option(help="Sides of tiles, as in 1,4 (default: the recipe's).")] = None,
    width: Annotated[str, typer.Option(help="FE2E also with these shares of its channels.")] = ".85,.7,.5",
    seeds: Annotated[str, typer.Option(help="The seeds, with commas; quality is their mean.")] = "0,1,2",
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs (default: runs/NAME-p).")] = None,
) -> None:
    """Show quality against counted operations and measured seconds (Figure 5 of the paper), for MESM and FE2E.

    Trains MESM for each p, FE2E, and narrower FE2Es, with each seed. Prints a table and writes it to OUT/sweep.csv, the
    runs to OUT/runs.csv, a figure to OUT/sweep.png. Runs that have ended are not trained again; a stopped sweep is
    resumed by the same command. Operations and seconds are those of feature extraction, relative to FE2E's; seconds
    are measured after the training, the models in turn.

    \b
    Examples:
      mesm-train sweep p iemocap-mesm --data /data/iemocap --values .9,.7,.5,.3 --out runs/sweep
      mesm-train sweep p demo-mesm --data /data/shards --values .7,.5 --tile 1,4 --width .7 --seeds 0,1
    """
    from mesm_train.config.recipe_files import load_recipe

    changes = [*(sets or ()), *([f"data={json.dumps(data)}"] if data else [])]
    config = load_recipe(recipe, changes)
    ps = sorted(_numbers("--values", values, float, ".9,.7,.5"), reverse=True)
    tiles = _numbers("--tile", tile, int, "1,4") if tile else [config.model.sparse.tile]
    widths, chosen_seeds = _numbers("--width", width, float, ".7,.5"), _numbers("--seeds", seeds, int, "0,1,2")
    place = out or Path("runs") / f"{config.name}-p"
    from mesm_cli.run import StopFlag
    from mesm_data.storage.files import atomic_write
    from mesm_train.analysis import sweep as library
    from mesm_train.report.figures import sweep_figure
    from mesm_train.training.progress import BarLogger, LineLogger

    variants = library.variants(config, ps=ps, tiles=tiles, widths=widths)
    logger = BarLogger() if sys.stderr.isatty() else LineLogger()
    rows = library.train_all(variants, chosen_seeds, place, stop=StopFlag(), logger=logger)
    if rows is None:
        raise console.Stopped
    seconds = library.measure({name: place / library.run_name(name, chosen_seeds[0]) for name in variants})
    summaries = library.summarise(rows, seconds)
    library.write_csv(place / "runs.csv", library.HEAD, rows)
    library.write_csv(place / "sweep.csv", library.SUMMARY_HEAD, summaries)
    with atomic_write(place / "sweep.png") as file:
        file.write(sweep_figure(summaries))
    table = [library.SUMMARY_HEAD, *(summary.cells() for summary in summaries)]
    lengths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        console.show("  ".join(cell.ljust(length) for cell, length in zip(cells, lengths, strict=True)).rstrip())
    console.say("macro F1 and AUC: mean ± standard deviation over the seeds; operations, forward, f + b (forward and")
    console.say("backward seconds): feature extraction, relative to fe2e")
    console.say(f"{place / 'sweep.csv'}, {place / 'runs.csv'}, {place / 'sweep.png'}")


def _numbers(option: str, text: str, kind: Callable[[str], N], example: str) -> list[N]:
    """The numbers of a list with commas, each once."""
    try:
        return list(dict.fromkeys(kind(part) for part in text.split(",") if part))
    except ValueError:
        raise InputError(f"{option} {text!r}: expected numbers with commas, as in {example}") from None
