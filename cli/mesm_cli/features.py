"""mesm-data features."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesm_cli import console
from mesm_cli.progress_bar import ProgressBar
from mesm_data.errors import InputError

if TYPE_CHECKING:
    from mesm_data.features.base import Extractor


@console.when_stopped(console.RESUMES)
def features(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="KIND|FILE",
            help="egemaps, hog, hog-landmarks, glove, covarep-csd, facet-csd, openface-csv, disvoice-csv, encoder, or "
            "a file of your own (.csv, .tsv, .parquet, .npz). Without it, the sets of DIR are listed.",
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="The file, folder or model that features come from.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The set's name; by default that of the kind or file.")] = None,
    window: Annotated[
        float | None,
        typer.Option(min=0, help="Pool rows over so many seconds; 0: not. Default: 0.4 for egemaps, else 0."),
    ] = None,
    hop: Annotated[float | None, typer.Option(min=1e-6, help="Seconds between rows of a table without times.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a set of that name.")] = False,
) -> None:
    """Compute features for two-phase systems and write them beside the shards, in DIR/features/NAME.

    Safe to interrupt: run the same command again to resume. `mesm-data verify` checks them with the dataset.

    \b
    Examples:
      mesm-data features /data/iemocap --with egemaps
      mesm-data features /data/iemocap --with glove --from glove.840B.300d.txt
      mesm-data features /data/mosei --with covarep-csd --from CMU_MOSEI_COVAREP.csd --window 0.2
      mesm-data features /data/iemocap --with encoder --from wavlm-base --name wavlm
      mesm-data features /data/iemocap --with mine.parquet --name mine
      mesm-data features /data/iemocap
    """
    from mesm_data.dataset.reader import Dataset
    from mesm_data.features.extractors import default_name, open_extractor
    from mesm_data.features.summary import summarise_features
    from mesm_data.pipeline.features import compute_features

    dataset = Dataset(path, check=True)
    if kind is None:
        for each, summary in summarise_features(path).items():
            console.show(f"{each}: {set_line(summary)}")
        return
    extractor = (
        open_encoder(source) if kind == "encoder" else open_extractor(kind, source=source, window=window, hop=hop)
    )
    console.say(f"note: {extractor.describe().licence}")
    with ProgressBar(leave=False) as bar:
        step = bar(extractor.kind, len(dataset), len(dataset))
        computed = compute_features(
            dataset, extractor, name or default_name(kind), workers=workers, overwrite=overwrite, step=step
        )
    console.show(f"{computed.name}: {set_line(computed.summary())}")


def open_encoder(source: Path | None) -> "Extractor":
    """The extractor of a model of transformers. Raises InputError without a model."""
    from mesm_train.models.encoder_features import EncoderFeatures

    if source is None:
        raise InputError("--with encoder needs --from: a folder that holds a model of transformers, or one of the Hub")
    return EncoderFeatures(encoder=str(source))


def set_line(summary: Mapping[str, Any]) -> str:
    """The summary of a feature set in one line, or why it cannot be used."""
    if "problem" in summary:
        return f"cannot be used: {summary['problem']}"
    hop = f", one row per {summary['hop']:g} s" if summary["hop"] else ""
    lost = f", {summary['not_finite']} numbers that are not finite replaced by 0" if summary["not_finite"] else ""
    return (
        f"{summary['rows']} rows of {summary['numbers']} numbers{hop} for {summary['utterances']} utterances, "
        f"{summary['empty']} of them without any{lost} ({summary['kind']})"
    )
