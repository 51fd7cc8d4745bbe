"""Random access to samples: an index and memory maps, nothing is copied until it is used.

Stock readers work on the same files (webdataset, Hugging Face datasets, tar); this one is for those who know a key.
"""

import mmap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.dataset import dataset_dir as dataset
from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.manifest_index import Rows
from mesm_data.dataset.members import EXTENSIONS, decode_faces
from mesm_data.dataset.shard_store import LocalShards, ShardStore
from mesm_data.dataset.tar import BLOCK, header
from mesm_data.errors import InputError, MesmError
from mesm_data.media.wav import decode_wav
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.json_files import parse_json

if TYPE_CHECKING:
    import pandas as pd

    from mesm_data.splits.resolve import Split

MAX_RECORD = 8 * 2**20  # ten hours of one utterance
# What a split is made of.
SPLIT_COLUMNS = ("id", "status", "reason", "recording", "dialog", "speaker", "session", "split", "start", "end")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sample:
    """One utterance. `faces`: uint8 (n, size, size, 3) RGB; `samples`: int16 (n,) at `sample_rate` Hz.

    Both are read-only views. `json` is the member as it lies in the shard; `record` parses it, which takes longer than
    all the rest. A pickled sample holds copies.
    """

    key: str
    faces: NDArray[np.uint8]
    samples: NDArray[np.int16]
    sample_rate: int
    text: str
    json: memoryview

    @property
    def record(self) -> dict[str, Any]:
        """What the sample says of itself. Raises MesmError if that is not a JSON object, or longer than any record."""
        try:
            if len(self.json) > MAX_RECORD:
                raise ValueError(f"more than {MAX_RECORD >> 20} MiB")
            found = parse_json(bytes(self.json))
            if not isinstance(found, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise MesmError(f"sample {self.key} is damaged: its json is not a record ({error})") from None
        return found

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        seconds = len(self.samples) / self.sample_rate
        return f"Sample({self.key:.40}: {len(self.faces)} faces, {seconds:.1f} s, {text!r})"

    def __reduce__(self) -> tuple[Callable[..., "Sample"], tuple[Any, ...]]:
        return _sample, (self.key, self.faces, self.samples, self.sample_rate, self.text, bytes(self.json))


def _sample(
    key: str, faces: NDArray[np.uint8], samples: NDArray[np.int16], rate: int, text: str, json: bytes
) -> Sample:
    return Sample(key=key, faces=faces, samples=samples, sample_rate=rate, text=text, json=memoryview(json))


class Dataset:
    """A dataset on disk: `len`, iteration over samples and `dataset[key]` concern the utterances that were built.

    Safe for several threads. It can be pickled, so workers of a torch DataLoader can read it: a worker opens the
    folder anew, and refuses it if it holds another dataset by then.

    Attributes:
        path: The folder.
        info: The content of dataset.json.
        rows: The manifest: a row per utterance of the corpus, built or not.
        keys: The utterances that were built, in the manifest's order.
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
            check: Compares the manifest with its digest and the root, and each member with its digest and its tar
                header with the format's when it is first read.
            store: Where the shards are; by default beside the manifest.

        Raises:
            InputError: There is no dataset, or, with `check`, the manifest is not the one that dataset.json names.
        """
        path = Path(path)
        info = dataset.describe(path)
        self._open(path, info, Rows(dataset.table(path, info)), check, store or LocalShards(path / "shards"))
        if check:
            self.check_root()

    def _open(self, path: Path, info: dict[str, Any], rows: Rows, check: bool, store: ShardStore) -> None:
        self.path, self.info, self.rows, self.store, self._check = path, info, rows, store, check
        self._selected = False
        self._shards = self.rows.column("shard")
        self._places = [tuple(self.rows.numbers(name) for name in member_columns(ext)[:2]) for ext in EXTENSIONS]
        pairs = zip(self.rows, self.rows.column("status"), strict=True)
        self._built = {key: number for number, (key, status) in enumerate(pairs) if status == "ok"}
        self.keys = list(self._built)
        self._face_size = int(self.info["recipe"]["face_size"])
        self._sample_rate = int(self.info["recipe"]["sample_rate"])
        self._maps: dict[str, mmap.mmap] = {}
        self._left: Counter[str] = Counter()  # reads that were announced, by shard
        self._lock = Lock()
        self._unchecked = set(self.keys) if check else set()

    def check_root(self) -> None:
        """Compare the manifest with its digest and the root. Raises InputError if they differ."""
        dataset.check_root(self.path, self.info, self.rows.dictionaries(), self.store.remedy("manifest.parquet"))

    @property
    def schema(self) -> CorpusSchema:
        """The corpus' labels, views and splits; `schema.view("six").target(labels)` is a training target."""
        return dataset.schema_of(self.path, self.info)

    def select(self, keys: Iterable[str]) -> "Dataset":
        """The same dataset with these utterances only, in this order.

        Raises:
            KeyError: One of them was not built; the message has the reason.
            InputError: One of them is named twice.

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
            self._number(key)
        if twice := [key for key, count in Counter(names).items() if count > 1]:
            raise InputError(f"{twice[0]} is selected twice")
        selection = object.__new__(Dataset)
        selection._open(self.path, self.info, self.rows.take(names), self._check, self.store)
        selection._selected = True
        return selection

    def split(self, name: str | Path) -> "Split":
        """The split `name` of these utterances: `parts` has the keys of train, valid and test.

        Args:
            name: A rule ("session-5", "dialog"), a published list by its name, or the path of lists.

        Raises:
            InputError: There is no such split, or it holds none of these utterances.

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
        """The manifest as a table: a row per utterance of the corpus, built or not (`status`, `reason`).

        The index is the key. Labels have a column each, such as `labels.emotion`; `labels.raters` holds the list of
        what each rater said. Whole numbers have the type Int64, because those of an utterance that was not built are
        missing. After `select` there are the selected rows only.

        Examples:
            >>> import mesm_data
            >>> table = mesm_data.open_dataset("data/iemocap").to_pandas()
            >>> table.loc[table.status == "ok", ["speaker", "labels.emotion", "n_faces"]].dtypes["n_faces"]
            Int64Dtype()
        """
        import pandas as pd
        import pyarrow as pa

        table = self.rows.table.flatten()  # labels, the only struct
        found: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        return found.set_index("key")

    def __repr__(self) -> str:
        seconds = int(self.rows.numbers("n_samples").sum()) / self._sample_rate
        synthetic = " (synthetic)" if self.info["synthetic"] else ""
        return (
            f"Dataset({self.info['corpus']:.40}{synthetic}: {len(self)} of {len(self.rows)} utterances, "
            f"{seconds / 60:.1f} min, root {self.info['root'][:12]})"
        )

    def __reduce__(self) -> tuple[Callable[..., "Dataset"], tuple[Any, ...]]:
        keys = self.keys if self._selected else None
        return _reopen, (self.path, self._check, self.store, self.info["root"], keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Sample]:
        return (self[key] for key in self.keys)

    def __getitem__(self, key: str) -> Sample:
        """The sample `key`. Raises KeyError if it was not built, MesmError if the shard does not hold it."""
        self._number(key)
        try:
            return self._decode(key, self.members(key))
        except ValueError as error:
            file = f"shards/{self.shard(key)}"
            raise MesmError(
                f"{self.path / file}: sample {key} is damaged ({error}); {self.store.remedy(file)}"
            ) from None
        finally:
            self._read(self.shard(key))

    def _number(self, key: str) -> int:
        """The row of an utterance that was built."""
        if key not in self._built:
            row = self.rows[key]
            raise KeyError(f"{key} is {row['status']} ({row['reason']})")
        return self._built[key]

    def sample(self, key: str, members: Sequence[bytes]) -> Sample:
        """The sample `key`, whose members, in the order of EXTENSIONS, were read from its shard in another way.

        Where checked, they are compared with their digests the first time. Raises as `dataset[key]` does.
        """
        self._number(key)
        try:
            if key in self._unchecked:
                self._compare_digests(key, members)
                self._unchecked.discard(key)
            return self._decode(key, [memoryview(member) for member in members])
        except ValueError as error:
            source = self.store.source(self.shard(key))
            raise MesmError(
                f"{source}: sample {key} is damaged ({error}); `mesm-data verify` on this dataset lists all that is"
            ) from None

    def _decode(self, key: str, members: Sequence[memoryview]) -> Sample:
        """Raises ValueError if the members are not those of a sample."""
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

    def member(self, key: str, extension: str) -> memoryview:
        """The bytes of one member, as they lie in the shard. Raises as `members`."""
        return self.members(key)[EXTENSIONS.index(extension)]

    def shard(self, key: str) -> str:
        """The name of the shard that holds `key`."""
        return str(self._shards[self._built[key]])

    def expect(self, keys: Iterable[str]) -> None:
        """Say in which order samples will be read, each as often as it is named; what was said before is void.

        So the store can have their shards ready, and each is unmapped after its last sample.
        """
        left = Counter(map(self.shard, keys))
        with self._lock:
            self._left = left
            for name in self._maps.keys() - left.keys():
                self._drop(name)
        self.store.expect(list(left))

    def _read(self, shard: str) -> None:
        """Count a read that was announced; after the last one the shard is unmapped."""
        with self._lock:
            self._left[shard] -= 1
            if self._left[shard] == 0:
                self._drop(shard)

    def _drop(self, shard: str) -> None:
        # Samples that are still in use keep their memory map, and with it the bytes, until they are gone.
        self._maps.pop(shard, None)
        self.store.release(shard)

    def members(self, key: str) -> list[memoryview]:
        """The bytes of each member of EXTENSIONS as they lie in the shard; where checked, ValueError if they differ."""
        number = self._built[key]
        shard = memoryview(self._map(self._shards[number]))
        # Inside the shard: see claims.py.
        places = [(int(offsets[number]), int(sizes[number])) for offsets, sizes in self._places]
        found = [shard[offset : offset + size] for offset, size in places]
        if key in self._unchecked:
            self._compare(key, [shard[offset - BLOCK : offset] for offset, _ in places], found)
            self._unchecked.discard(key)
        return found

    def _compare(self, key: str, heads: list[memoryview], members: list[memoryview]) -> None:
        for extension, head, member in zip(EXTENSIONS, heads, members, strict=True):
            if head != header(f"{key}.{extension}", len(member)):
                raise ValueError(f"{extension} has another tar header than this format's")
        self._compare_digests(key, members)

    def _compare_digests(self, key: str, members: Sequence[bytes | memoryview]) -> None:
        for extension, member in zip(EXTENSIONS, members, strict=True):
            if sha256(member).hexdigest() != self.rows.value(self._built[key], member_columns(extension)[2]):
                raise ValueError(f"{extension} has another sha256 than the manifest says")

    def _map(self, name: str) -> mmap.mmap:
        found = self._maps.get(name)  # another thread may drop it at any time
        if found is None:
            path, size = self.store.path(name), self.info["shards"][name]["size"]
            try:
                with open_regular_file(path) as file:
                    if (there := file.seek(0, 2)) != size:
                        raise MesmError(
                            f"{path} has {there} bytes, dataset.json says {size}; `mesm-data verify {self.path}` says "
                            "which samples that concerns"
                        )
                    found = self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise MesmError(f"{path} cannot be read ({error})") from None
        return found


def _reopen(path: Path, check: bool, store: ShardStore, root: str, keys: list[str] | None) -> Dataset:
    """The dataset that was pickled. Raises InputError if another one lies there by now."""
    found = Dataset(path, check=check, store=store)
    if found.info["root"] != root:
        raise InputError(f"{path} holds another dataset than when it was opened: it was built or fetched anew")
    return found if keys is None else found.select(keys)
