"""Write the folder that benchmarks/gpu/run.py needs on a machine without a network: shards, a split and wheels.

    python benchmarks/gpu/prepare.py gpu-kit [--python 3.12] [--no-wheels]

The shards are a small SYNTHETIC corpus (as `mesm-data sample iemocap` writes it), about 6 MB. The wheels are those that
a machine with torch, transformers, safetensors, pandas, typer and pytest still lacks, about 45 MB, of the versions
that are installed here (but for pyarrow); --no-wheels leaves them out.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import yaml

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.pipeline.build import build_dataset
from mesm_data.synthetic import iemocap

PACKAGES = (
    "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "soundfile", "cffi", "pycparser", "webdataset",
    "braceexpand",
)  # fmt: skip
PYARROW = "pyarrow==21.0.0"  # newer ones are 10 MB larger, and some machines take 64 MiB in all
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
EMOTIONS = ("ang", "exc", "fru", "hap", "neu", "sad")


def write_shards(folder: Path) -> None:
    """A dataset of five dialogs, one a session, without clips."""
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "iemocap"
        iemocap.write_corpus(corpus, dialogs=5, turns=10, seed=1)
        build_dataset(scan_corpus("iemocap", corpus), folder, Recipe(corpus="iemocap", clips=False))


def write_split(dataset: Dataset, file: Path) -> None:
    """Of each emotion one utterance to valid, one to test, the others to train."""
    emotion = {key: dataset.rows[key]["labels"]["emotion"] for key in dataset.keys}
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for name in EMOTIONS:
        valid, test, *train = [key for key in dataset.keys if emotion[key] == name]
        parts["valid"].append(valid)
        parts["test"].append(test)
        parts["train"] += train
    file.write_text(yaml.safe_dump(parts))


def download_wheels(folder: Path, python: str) -> None:
    """Wheels for Linux on x86-64, of the versions that are installed here."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    command += ["--python-version", python, *(f"--platform={platform}" for platform in PLATFORMS)]
    subprocess.run([*command, PYARROW, *(f"{name}=={version(name)}" for name in PACKAGES)], check=True)


def main() -> None:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=Path)
    parser.add_argument("--python", default="3.12", help="version of the machine with the card")
    parser.add_argument("--no-wheels", action="store_true")
    settings = parser.parse_args()
    settings.kit.mkdir(parents=True, exist_ok=True)
    if not (settings.kit / "shards" / "dataset.json").exists():
        write_shards(settings.kit / "shards")
    write_split(Dataset(settings.kit / "shards"), settings.kit / "split.yaml")
    if not settings.no_wheels:
        download_wheels(settings.kit / "wheels", settings.python)
    size = sum(path.stat().st_size for path in settings.kit.rglob("*") if path.is_file())
    print(f"{settings.kit}: {size / 2**20:.1f} MiB. On the machine with the card: make gpu")


if __name__ == "__main__":
    main()
