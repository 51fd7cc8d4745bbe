"""mesm-train explain."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.progress_bar import ProgressBar
from mesm_data.errors import InputError


def explain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, an exported one, or a model of the Hub.")],
    clips: Annotated[list[str] | None, typer.Argument(metavar="[CLIP]...", help="Media files, folders, globs.")] = None,
    text: Annotated[str | None, typer.Option(help="What is said in the clip.")] = None,
    keys: Annotated[str | None, typer.Option(help="Utterances of the dataset, with commas.")] = None,
    worst: Annotated[int | None, typer.Option(min=1, help="The N worst mistakes on the test part.")] = None,
    part: Annotated[
        str, typer.Option("--split", help="Without clips, keys or --worst: one utterance of each class of this part.")
    ] = "test",
    data: Annotated[str | None, typer.Option(help="The dataset, if it was moved, or another one.")] = None,
    glove: Annotated[
        Path | None, typer.Option(help="The text file of GloVe that the training data's features come from, if any.")
    ] = None,
    device: Annotated[str, typer.Option(help="As torch names it; auto: a graphics card if there is one.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="The page (default: RUN/explain.html).")] = None,
) -> None:
    """Show why a model predicts what it predicts: one page with players, kept sites and importance by occlusion.

    Each modality, word, face and stretch of sound is taken away in turn. An utterance needs some 60 forward passes.

    \b
    Examples:
      mesm-train explain runs/demo-mesm
      mesm-train explain runs/demo-mesm --worst 6
      mesm-train explain runs/demo-mesm --keys Ses01F_impro01_F000,Ses01F_impro01_M001
      mesm-train explain runs/demo-mesm clip.mp4 --text "I can't believe it!" --out clip.html
    """
    import mesm_train
    from mesm_data.storage.files import check_writable
    from mesm_train.explain import contents, page
    from mesm_train.inference.clips import Clip
    from mesm_train.inference.media_paths import find_clips

    if sum(choice is not None for choice in (clips or None, keys, worst)) > 1:
        raise InputError("give clips, --keys or --worst, not several of them")
    if part not in ("train", "valid", "test"):
        raise InputError(f"--split {part!r}: expected train, valid or test")
    if out:
        check_writable(out)
    predictor, path = mesm_train.load(run, device=device, glove=glove), Path(run)
    if out is None and not path.is_dir():
        raise InputError(f"{run} is a model of the Hub and no folder that the page could be written to: give --out")
    if clips:
        subjects = contents.clip_subjects(predictor, [Clip(path=clip, text=text) for clip in find_clips(clips)])
    else:
        if text is not None:
            raise InputError("--text belongs to a clip")
        chosen = keys.split(",") if keys else None
        chosen = chosen or (contents.worst_keys(path, worst) if worst else contents.default_keys(path, part, data=data))
        subjects = contents.dataset_subjects(path, chosen, data=data)
    total = page.count_all_passes(predictor, subjects)
    with ProgressBar("pass", leave=False) as bar:
        step = bar("explain", total, total)
        console.show(page.write_explanation(predictor, subjects, out or path / "explain.html", step=step))
