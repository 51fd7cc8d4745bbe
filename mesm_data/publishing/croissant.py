"""The dataset as Croissant 1.1 JSON-LD with the fields of its responsible-AI vocabulary (RAI 1.0).

Croissant is the metadata format of MLCommons (https://docs.mlcommons.org/croissant/). File names are relative to the
JSON file, which belongs beside dataset.json. The rows of the manifest are a record set; labels are a column of structs
and are described in words.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import read_dataset_info, schema_from_info
from mesm_data.dataset.info import CROISSANT_FILE
from mesm_data.dataset.summary import inspect
from mesm_data.publishing import facts
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import write_json

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    **{
        term: f"cr:{term}"
        for term in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject",
            "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
            "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
            "separator", "source", "subField", "transform",
        )
    },
}  # fmt: skip
COLUMNS = {  # of the manifest: type and meaning
    "key": ("sc:Text", "key of the sample in its shard"),
    "id": ("sc:Text", "id of the utterance in the corpus"),
    "status": ("sc:Text", "ok, failed or excluded"),
    "reason": ("sc:Text", "why it was not built, or what is incomplete"),
    "recording": ("sc:Text", "the recording that it is cut from"),
    "dialog": ("sc:Text", "the dialog"),
    "speaker": ("sc:Text", "who speaks"),
    "session": ("sc:Text", "the session"),
    "split": ("sc:Text", "part of the published split, if the corpus has one"),
    "start": ("sc:Float", "seconds of the recording"),
    "end": ("sc:Float", "seconds of the recording"),
    "audio": ("sc:Text", "ok, partial or none"),
    "video": ("sc:Text", "ok, partial or none"),
    "n_samples": ("sc:Integer", "samples of sound"),
    "n_faces": ("sc:Integer", "face crops"),
    "n_detected": ("sc:Integer", "face crops in which a face was detected"),
    "n_words": ("sc:Integer", "words with times"),
    "shard": ("sc:Text", "the shard that holds it"),
}


def write_croissant(path: Path, out: Path | None = None) -> Path:
    """Describe the dataset in `path` in the file `out`, by default DIR/croissant.json. Raises as `inspect`."""
    target = out or path / CROISSANT_FILE
    write_json(target, croissant(path))
    return target


def croissant(path: Path) -> dict[str, Any]:
    """The JSON-LD description of the dataset in `path`."""
    info = read_dataset_info(path)
    schema = schema_from_info(path, info)
    summary = inspect(path)
    title = f"{'SYNTHETIC data in the layout of ' if info['synthetic'] else ''}{schema.title or schema.name}"
    description: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": f"{schema.name}-synthetic" if info["synthetic"] else schema.name,
        "description": f"{title}: aligned faces, sound, transcripts and labels as WebDataset shards, made with mesm. "
        f"Root {info['root']}.",
        "conformsTo": CONFORMS_TO,
        "version": f"1.0.0+{info['root'][:12]}",
        "license": _licence(schema, info),
        "keywords": ["emotion recognition", "multimodal", "WebDataset", *(["synthetic"] if info["synthetic"] else [])],
        "isLiveDataset": False,
        **({"citeAs": schema.reference} if schema.reference and not info["synthetic"] else {}),
        **({"url": schema.homepage} if schema.homepage else {}),
        **_responsible_ai(info, schema, summary),
        "distribution": [_file("manifest.parquet", "application/x-parquet", sha256_file(path / "manifest.parquet"))],
        "recordSet": [_record_set()],
    }
    for folder, files in (("shards", info["shards"]), ("video", info["video"])):
        for name, file in files.items():
            description["distribution"].append(
                _file(f"{folder}/{name}", "application/x-tar", file["sha256"], file["size"])
            )
    return description


def _licence(schema: CorpusSchema, info: Mapping[str, Any]) -> str:
    licence = schema.licence
    if info["synthetic"]:
        return "No recording is in it, so the terms of the corpus do not apply."
    return licence.request or licence.name or licence.terms or "not stated: nothing may be passed on"


def _responsible_ai(info: Mapping[str, Any], schema: CorpusSchema, summary: Mapping[str, Any]) -> dict[str, str]:
    texts = {
        "dataCollection": facts.collection(info, schema),
        "dataPreprocessingProtocol": facts.preprocessing(info),
        "dataAnnotationProtocol": facts.annotation(schema),
        "dataCollectionMissingData": facts.missing(summary),
        "dataBiases": facts.balance(summary),
        "dataLimitations": facts.limitations(summary),
        "personalSensitiveInformation": facts.personal_information(info),
        "machineAnnotationTools": f"face detector {info['recipe'].get('face_detector', 'mtcnn')}",
        "dataUseCases": "Training and evaluation of models that recognise emotion from video, speech and text.",
    }
    return {f"rai:{name}": text for name, text in texts.items()}


def _file(name: str, kind: str, digest: str, size: int | None = None) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": kind,
        "sha256": digest,
        **({"contentSize": f"{size} B"} if size is not None else {}),
    }


def _record_set() -> dict[str, Any]:
    def field(name: str, kind: str, meaning: str) -> dict[str, Any]:
        return {
            "@type": "cr:Field",
            "@id": f"utterances/{name}",
            "name": name,
            "description": meaning,
            "dataType": kind,
            "source": {"fileObject": {"@id": "manifest.parquet"}, "extract": {"column": name}},
        }

    return {
        "@type": "cr:RecordSet",
        "@id": "utterances",
        "name": "utterances",
        "description": "The manifest: one row per utterance of the corpus, built or not.",
        "key": {"@id": "utterances/key"},
        "field": [field(name, kind, meaning) for name, (kind, meaning) in COLUMNS.items()],
    }
