"""mesm-train export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console


class Format(StrEnum):
    """What a model can be exported to."""

    HUB_FOLDER = "hub-folder"
    ONNX = "onnx"


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, an exported one, or a model of the Hub.")],
    to: Annotated[Format, typer.Option("--to", help="hub-folder: for the Hugging Face Hub. onnx: for other programs.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    glove: Annotated[
        Path | None, typer.Option(help="The text file of GloVe that the training data's features come from, if any.")
    ] = None,
) -> None:
    """Export the model of a run.

    hub-folder: model.safetensors, config.json, a model card and the tokenizer. mesm_train.load opens the folder without
    a network; `hf upload NAME FOLDER` publishes it. onnx: model.onnx with model.json and the tokenizer.

    \b
    Examples:
      mesm-train export runs/demo-fe2e --to hub-folder --out demo-fe2e-hub
      mesm-train export runs/demo-fe2e --to onnx --out demo-fe2e-onnx
    """
    from mesm_train.inference.load import load

    predictor = load(run, device="cpu", glove=glove)
    if to is Format.ONNX:
        from mesm_train.inference.onnx_export import export_onnx

        difference = export_onnx(predictor, out)
        console.say(f"{out}: the logits of onnxruntime differ from torch's by {difference:.1g} at most")
    else:
        from mesm_train.inference.hub_model import export_hub_folder

        export_hub_folder(predictor, Path(run) if (Path(run) / "config.yaml").exists() else None, out)
        console.say(f"{out}: mesm_train.load({str(out)!r}) opens it")
