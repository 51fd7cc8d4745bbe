"""A Whisper model with random weights: it recognises nothing, and gives words with times as a trained one does."""

import json
from pathlib import Path
from typing import Any

import torch


def write_tiny_whisper(folder: Path) -> None:
    """Write a model that transformers loads: tokens are bytes, the special tokens are Whisper's."""
    import transformers
    from tokenizers import AddedToken
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder.mkdir()
    vocabulary = {character: number for number, character in enumerate(bytes_to_unicode().values())}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer: Any = transformers.WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    names = [
        "startoftranscript",
        "en",
        "translate",
        "transcribe",
        "startoflm",
        "startofprev",
        "nospeech",
        "notimestamps",
    ]
    names += [f"{number * 0.02:.2f}" for number in range(1501)]
    tokenizer.add_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False) for name in names])
    tokenizer.save_pretrained(folder)
    token = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("endoftext", *names[:8])}
    common = {
        "pad_token_id": token["endoftext"], "bos_token_id": token["endoftext"], "eos_token_id": token["endoftext"],
        "decoder_start_token_id": token["startoftranscript"],
    }  # fmt: skip
    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, max_target_positions=448, suppress_tokens=None,
        begin_suppress_tokens=None, **common, **sizes, **heads,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(
        alignment_heads=[[0, 0], [0, 1]], no_timestamps_token_id=token["notimestamps"], is_multilingual=True,
        lang_to_id={"<|en|>": token["en"]}, task_to_id={name: token[name] for name in ("transcribe", "translate")},
        language="en", task="transcribe", max_length=20, prev_sot_token_id=token["startofprev"],
        max_initial_timestamp_index=50, **common,
    )  # fmt: skip
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
