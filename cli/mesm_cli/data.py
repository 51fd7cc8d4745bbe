"""The command mesm-data: from raw emotion corpora to verified shards."""

from mesm_cli import console, splits
from mesm_cli.browse import browse
from mesm_cli.build import build
from mesm_cli.corpora import corpora, table
from mesm_cli.diff import diff
from mesm_cli.features import features
from mesm_cli.fetch import fetch
from mesm_cli.fingerprint import fingerprint
from mesm_cli.inspect import inspect
from mesm_cli.publish import publish
from mesm_cli.retry import retry
from mesm_cli.sample import sample
from mesm_cli.verify import verify

app = console.new_app(
    "mesm-data",
    "Raw emotion corpora to aligned video, audio and text shards (WebDataset), identical wherever they are built.",
)
for command in (
    corpora,
    table,
    sample,
    build,
    retry,
    inspect,
    browse,
    diff,
    verify,
    features,
    fingerprint,
    publish,
    fetch,
):
    app.command()(command)
app.add_typer(splits.app)


def main() -> None:
    """The entry point."""
    console.run(app)
