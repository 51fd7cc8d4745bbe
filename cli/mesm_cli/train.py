"""mesm-train: shards to trained and judged models."""

import os

import typer

from mesm_cli import console
from mesm_cli.run import compare, evaluate, run

app = typer.Typer(
    name="mesm-train",
    help="Train FE2E and MESM on the shards of mesm-data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(run)
app.command("eval")(evaluate)
app.command("compare")(compare)


def main() -> None:
    """The entry point."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    console.run(app)


if __name__ == "__main__":
    main()
