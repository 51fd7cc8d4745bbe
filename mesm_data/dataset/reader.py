"""Random access to samples through the manifest and memory maps: nothing is copied before it is used.

Stock readers read the same files (webdataset, Hugging Face datasets, tar).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.dataset.dataset_dir import check_dataset_root, read_dataset_info, read_manifest, schema_from_info
from mesm_data.dataset.manifest_index import ManifestRows
from mesm_data.dataset.members import EXTENSIONS, decode_faces
from mesm_data.dataset.sample import Sample
from mesm_data.dataset.shard_reader import ShardReader
from mesm_data.dataset.shard_store import LocalShards, ShardStore
from mesm_data.errors import InputError, MesmError
from mesm_data.media.wav import decode_wav
from mesm_data.schema.corpus import CorpusSchema

if TYPE_CHECKING:
    import pandas as pd

    from mesm_data.splits.resolve import Split

# The columns that a split is made from.
SPLIT_COLUMNS = ("id", "status", "reason", "recording", "dialog", "speaker", "session", "split", "start", "end")


class Dataset:
    """A dataset on disk: `len`, iteration over samples and `dataset[key]` apply to the utterances that were built.

    Thread-safe. It can be pickled for the workers of a torch DataLoader: each worker opens the folder again, and
    refuses it if it contains another dataset by then.

    Attributes:
        path: The folder.
        info: The content of dataset.json.
        rows: The manifest: one row per utterance of the corpus, built or not.
        keys: The keys of the utterances that were built, in the order of the manifest.
        store: Where the shards are.
        schema: The corpus' labels, views and splits.

    Examples:
        >>> import mesm_data
        >>> dataset = mesm_data.open_dataset("data/iemocap")
        >>> key = dataset.keys[0]
        >>> sample = dataset[key]
        >>> sample.faces.shape[1:], sample.faces.dtype, sample.samples.dtype, sample.sample_rate
        ((48, 48, 3), dtype('uint8'), dtype('int16'), 16000)
        >>> sample.record["speaker"]
        'Ses01F'
        >>> len(dataset) == sum(1 for sample in dataset)
        True
    """

    def __init__(self, path: str | Path, *, check: bool = False, store: ShardStore | None = None) -> None:
        """Open the dataset in the folder `path`.

        Args:
            path: A folder that `mesm-data build` wrote.
            check: Whether to compare the manifest with its digest and the root, and each member with its digest and its
                tar header with the format's when it is first read.
            store: Where the shards are; by default beside the manifest.

        Raises:
            InputError: There is no dataset, or, with `check`, the manifest is not the one that dataset.json names.
        """
        path = Path(path)
        info = read_dataset_info(path)
        self._open(path, info, ManifestRows(read_manifest(path, info)), check, store or LocalShards(path / "shards"))
        if check:
            self.check_root()

    def _open(self, path: Path, info: dict[str, Any], rows: ManifestRows, check: bool, store: ShardStore) -> None:
        self.path, self.info, self.rows, self.store, self._check = path, info, rows, store, check
        self._is_selection = False
        pairs = zip(rows, rows.column("status"), strict=True)
        self._built = {key: number for number, (key, status) in enumerate(pairs) if status == "ok"}
        self.keys = list(self._built)
        self._face_size = int(info["recipe"]["face_size"])
        self._sample_rate = int(info["recipe"]["sample_rate"])
        self._reader = ShardReader(path, info, rows, self._built, store, check=check)

    def check_root(self) -> None:
        """Compare the manifest with its digest and the root. Raises InputError if they differ."""
        check_dataset_root(self.path, self.info, self.rows.iter_dicts(), self.store.repair_hint("manifest.parquet"))

    @property
    def schema(self) -> CorpusSchema:
        """The corpus' labels, views and splits; `schema.view("six").target(labels)` is a training target."""
        return schema_from_info(self.path, self.info)

    def select(self, keys: Iterable[str]) -> "Dataset":
        """The dataset with these utterances only, in this order.

        Raises:
            KeyError: An utterance was not built; the message has the reason.
            InputError: An utterance is selected twice.

        Examples:
            >>> import mesm_data
            >>> dataset = mesm_data.open_dataset("data/iemocap")
            >>> table = dataset.to_pandas()
            >>> women = dataset.select(table.index[table.speaker.str.endswith("F") & (table.status == "ok")])
            >>> {sample.record["speaker"] for sample in women} <= {"Ses01F", "Ses02F", "Ses03F", "Ses04F", "Ses05F"}
            True
        """
        names = list(keys)
        for key in names:
            self._check_built(key)
        if twice := [key for key, count in Counter(names).items() if count > 1]:
            raise InputError(f"{twice[0]} is selected twice")
        selection = object.__new__(Dataset)
        selection._open(self.path, self.info, self.rows.take(names), self._check, self.store)
        selection._is_selection = True
        return selection

    def split(self, name: str | Path) -> "Split":
        """The split `name` of these utterances; its `parts` are the keys of train, valid and test.

        Args:
            name: A rule ("session-5", "dialog"), the name of a published list, or the path of lists.

        Raises:
            InputError: There is no such split, or it has none of these utterances.

        Examples:
            >>> import mesm_data
            >>> dataset = mesm_data.open_dataset("data/iemocap")
            >>> split = dataset.split("session-1")
            >>> train = dataset.select(split.part("train"))
            >>> {sample.record["session"] for sample in train}.isdisjoint({"1", "2"})
            True
        """
        from mesm_data.splits.resolve import resolve_split

        return resolve_split(self.rows.select(*SPLIT_COLUMNS).values(), self.schema, str(name))

    def to_pandas(self) -> "pd.DataFrame":
        """The manifest as a table: one row per utterance of the corpus, built or not (`status`, `reason`).

        The index is the key. Each label has a column, such as `labels.emotion`; `labels.raters` is the list of all
        ratings. Integers have the type Int64, because they are missing for an utterance that was not built. A
        selection has the selected rows only.

        Examples:
            >>> import mesm_data
            >>> table = mesm_data.open_dataset("data/iemocap").to_pandas()
            >>> table.loc[table.status == "ok", ["speaker", "labels.emotion", "n_faces"]].dtypes["n_faces"]
            Int64Dtype()
        """
        return self.rows.to_pandas()

    def __repr__(self) -> str:
        seconds = int(self.rows.int_column("n_samples").sum()) / self._sample_rate
        synthetic = " (synthetic)" if self.info["synthetic"] else ""
        return (
            f"Dataset({self.info['corpus']:.40}{synthetic}: {len(self)} of {len(self.rows)} utterances, "
            f"{seconds / 60:.1f} min, root {self.info['root'][:12]})"
        )

    def __reduce__(self) -> tuple[Callable[..., "Dataset"], tuple[Any, ...]]:
        keys = self.keys if self._is_selection else None
        return _reopen, (self.path, self._check, self.store, self.info["root"], keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Sample]:
        return (self[key] for key in self.keys)

    def __getitem__(self, key: str) -> Sample:
        """The sample `key`. Raises KeyError if it was not built, MesmError if it is damaged."""
        self._check_built(key)
        try:
            return self._decode(key, self.members(key))
        except ValueError as error:
            file = f"shards/{self.shard(key)}"
            raise MesmError(
                f"{self.path / file}: sample {key} is damaged ({error}); {self.store.repair_hint(file)}"
            ) from None
        finally:
            self._reader.finish_read(key)

    def _check_built(self, key: str) -> None:
        """Raises KeyError if an utterance was not built."""
        if key not in self._built:
            row = self.rows[key]
            raise KeyError(f"{key} is {row['status']} ({row['reason']})")

    def decode_members(self, key: str, members: Sequence[bytes]) -> Sample:
        """The sample `key` from its members, in the order of EXTENSIONS, that were read in another way.

        Raises:
            KeyError: It was not built.
            MesmError: It is damaged.
        """
        self._check_built(key)
        try:
            self._reader.check_digests(key, members)
            return self._decode(key, [memoryview(member) for member in members])
        except ValueError as error:
            source = self.store.source(self.shard(key))
            raise MesmError(
                f"{source}: sample {key} is damaged ({error}); `mesm-data verify` on this dataset lists all that is"
            ) from None

    def _decode(self, key: str, members: Sequence[memoryview]) -> Sample:
        """Raises ValueError if a member has another format."""
        faces, record, text, wav = members
        crops = decode_faces(faces)
        if crops.shape[1:3] != (self._face_size, self._face_size):
            raise ValueError(f"its faces are not {self._face_size} pixels wide and high")
        return Sample(
            key=key,
            faces=crops,
            samples=decode_wav(wav, self._sample_rate),
            sample_rate=self._sample_rate,
            text=str(text, "utf-8"),
            json=record,
        )

    def members(self, key: str) -> list[memoryview]:
        """The bytes of each member of EXTENSIONS. Raises ValueError if a check fails."""
        return self._reader.members(key)

    def member(self, key: str, extension: str) -> memoryview:
        """The bytes of one member. Raises as `members`."""
        return self.members(key)[EXTENSIONS.index(extension)]

    def shard(self, key: str) -> str:
        """The name of the shard that contains `key`."""
        return self._reader.shard(key)

    def prefetch(self, keys: Iterable[str]) -> None:
        """Announce the order in which samples will be read, each as often as it is named.

        The store fetches their shards in this order, and each shard is unmapped after its last sample. A further call
        replaces the order.
        """
        self._reader.prefetch(keys)


def _reopen(path: Path, check: bool, store: ShardStore, root: str, keys: list[str] | None) -> Dataset:
    """Open a pickled dataset. Raises InputError if the folder contains another dataset by now."""
    dataset = Dataset(path, check=check, store=store)
    if dataset.info["root"] != root:
        raise InputError(f"{path} holds another dataset than when it was opened: it was built or fetched anew")
    return dataset if keys is None else dataset.select(keys)
