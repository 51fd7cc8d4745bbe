"""Export of a scanned corpus as a table, one row per utterance."""

import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.errors import InputError
from mesm_data.schema.recordings import Corpus, Recording, Utterance
from mesm_data.storage.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

# Of CSV by RFC 4180. With "\n" alone, a text or a file name with a carriage return would not be quoted.
_LINE_END = "\r\n"


def corpus_frame(corpus: Corpus) -> "pd.DataFrame":
    """Return one row per utterance, in the order of the recordings: ids, files, times, text, flags, status and labels.

    `audio` is the first file on the recording's clock (that of `start` and `end`); `utterance_audio` and
    `utterance_video` are files of the utterance alone. `region_left` and `region_right` bound the speaker's part of the
    frame, as fractions of its width, where it is not the whole frame. `failed` and `excluded` contain the reason why an
    utterance is not built.
    """
    import pandas as pd

    rows = [_row(corpus, recording, utterance) for recording in corpus.recordings for utterance in recording.utterances]
    return pd.DataFrame(rows)


def _row(corpus: Corpus, recording: Recording, utterance: Utterance) -> dict[str, Any]:
    whole = math.isinf(utterance.end) and utterance.start == 0
    shared = next((source for source in utterance.audio if source.span is not None or whole), None)
    own = next((source for source in utterance.audio if source.span is None and not whole), None)
    status, reason = utterance.exclusion or (None, None)
    return {
        "id": utterance.id,
        "video": recording.video,
        "audio": shared.path if shared and shared.path != recording.video else None,
        "channel": shared.channel + 1 if shared and shared.channel is not None else None,
        "utterance_audio": own.path if own else None,
        "utterance_video": utterance.clip_source.path if utterance.clip_source else None,
        "region_left": utterance.region.left if utterance.region.left > 0 else None,
        "region_right": utterance.region.right if utterance.region.right < 1 else None,
        "start": utterance.start,
        "end": None if math.isinf(utterance.end) else utterance.end,
        "speaker": utterance.speaker,
        "session": utterance.session,
        "dialog": utterance.dialog,
        "split": utterance.split,
        "text": utterance.text,
        "words": None if utterance.words is None else len(utterance.words),
        "raters": len(utterance.labels.get("raters") or ()),
        "flags": ";".join(utterance.flags),
        "failed": reason if status == "failed" else None,
        "excluded": reason if status == "excluded" else None,
        **{name: _cell(utterance.labels[name]) for name in corpus.schema.labels},
    }


def _cell(value: Any) -> Any:
    return ";".join(value) if isinstance(value, list) else value


def write_table(corpus: Corpus, path: Path) -> None:
    """Write `corpus_frame` as .csv, .tsv, .parquet or .jsonl. Raises InputError for any other suffix."""
    frame = corpus_frame(corpus)
    text = io.StringIO()
    match path.suffix.lower():
        case ".csv":
            frame.to_csv(text, index=False, lineterminator=_LINE_END)
        case ".tsv":
            frame.to_csv(text, index=False, sep="\t", lineterminator=_LINE_END)
        case ".jsonl":
            # Not to_json, which rounds numbers to ten decimals.
            records = frame.astype(object).where(frame.notna(), None).to_dict("records")
            text.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        case ".parquet":
            with atomic_write(path) as file:
                frame.to_parquet(file, index=False)
            return
        case _:
            raise InputError(f"{path}: the name must end in .csv, .tsv, .parquet or .jsonl")
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
