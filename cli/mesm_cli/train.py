"""The command mesm-train: from shards to trained and evaluated models."""

import os
import warnings

from mesm_cli import console
from mesm_cli.app import app as app_command
from mesm_cli.compare import compare
from mesm_cli.cv import cv
from mesm_cli.explain import explain
from mesm_cli.export import export
from mesm_cli.predict import predict
from mesm_cli.report import report
from mesm_cli.run import evaluate, run
from mesm_cli.settings import settings
from mesm_cli.study import flops, sweep
from mesm_cli.tune import tune
from mesm_train.training.allocator import keep_freed_memory

app = console.new_app("mesm-train", "Train FE2E and MESM on the shards of mesm-data.")
app.command("run")(run)
app.command("eval")(evaluate)
app.command("compare")(compare)
app.command("report")(report)
app.command("predict")(predict)
app.command("export")(export)
app.command("app")(app_command)
app.command("cv")(cv)
app.command("tune")(tune)
app.command("settings")(settings)
app.command("explain")(explain)
app.command("flops")(flops)
app.add_typer(sweep, name="sweep")


def main() -> None:
    """The entry point."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Silences warnings about intended behaviour of several ranks: a step that uses every parameter, the layout of
    # gradients of convolutions with one channel, a store that ended with its rank.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    keep_freed_memory()  # a setting of the whole process, so it is made here and not in the library
    console.run(app)


if __name__ == "__main__":
    main()
