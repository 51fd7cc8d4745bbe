"""Run an exported model on arrays, without mesm and torch.

    pip install onnxruntime tokenizers numpy
    mesm-train export runs/demo-fe2e --to onnx --out demo-onnx
    python examples/run_onnx.py demo-onnx faces.npy sound.wav "I can't believe it!"

faces.npy holds uint8 (n, 48, 48, 3) RGB, one crop every half second; sound.wav is mono, 16 bit, 16 kHz: the members of
a shard, for example. An utterance without faces has n = 0.
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder, faces, sound, text = Path(sys.argv[1]), *sys.argv[2:]
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
inputs = {}
if "tokens" in about["inputs"]:
    if not text.strip():
        sys.exit("an utterance without text: the model in mesm leaves the text out, this one would read it as a text")
    tokenizer = Tokenizer.from_file(str(folder / "text" / "tokenizer.json"))
    tokenizer.enable_truncation(about["max_tokens"])
    inputs["tokens"] = np.array([tokenizer.encode(text).ids], np.int64)
if "faces" in about["inputs"]:
    inputs["faces"] = np.load(faces).astype(np.uint8)
if "samples" in about["inputs"]:
    with wave.open(sound) as file:
        inputs["samples"] = np.frombuffer(file.readframes(file.getnframes()), "<i2")
logits = onnxruntime.InferenceSession(folder / "model.onnx").run(["logits"], inputs)[0]
for name, logit, threshold in zip(about["heads"][0]["outputs"], logits, about["thresholds"], strict=False):
    probability = 1 / (1 + np.exp(-logit))  # of a head of the kind "binary"
    print(f"{'*' if probability >= threshold else ' '} {about['meanings'].get(name, name):<12} {probability:.4f}")
