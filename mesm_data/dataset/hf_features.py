"""The types of a sample for Hugging Face `datasets`, which dataset.json contains.

Without them `datasets` infers the columns from the first samples and decodes .wav by its Audio feature, which needs
torchcodec. With them it reads the shards as they are:

    features = datasets.Features.from_dict(json.load(open("dataset.json"))["features"])
    datasets.load_dataset("webdataset", data_files="shards/*.tar", features=features)
"""

from typing import Any

import pyarrow as pa

from mesm_data.dataset.manifest import record_schema
from mesm_data.schema.corpus import CorpusSchema


def hf_features(corpus: CorpusSchema, face_size: int) -> dict[str, Any]:
    """The argument of datasets.Features.from_dict."""
    text = {"dtype": "string", "_type": "Value"}
    return {
        "__key__": text,
        "__url__": text,
        "faces.npy": {"shape": [None, face_size, face_size, 3], "dtype": "uint8", "_type": "Array4D"},
        "json": {field.name: _feature(field.type) for field in record_schema(corpus)},
        "txt": text,
        "wav": {"dtype": "binary", "_type": "Value"},
    }


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}
