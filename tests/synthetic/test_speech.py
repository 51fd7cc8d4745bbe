"""espeak-ng through ctypes: words and phonemes at their times, at 16 kHz."""

import builtins
import ctypes.util
import re
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from mesm_data.errors import InputError
from mesm_data.synthetic import speech, text
from mesm_data.synthetic.phonemes import PHONEMES, bare, mouth
from mesm_data.synthetic.speech import RATE, Span, Synthesiser, Voice, resample


@pytest.fixture(scope="module")
def synthesiser() -> Synthesiser:
    return Synthesiser()


def sentences() -> list[str]:
    """Every template once, the slots filled."""
    rng = Random(0)
    templates = [template for pool in text.POOLS.values() for template in pool] + list(text.ASIDES)
    fill = {slot: rng.choice(values) for slot, values in text.SLOTS.items()}
    return [template.format(**fill) for template in templates]


def check_times(spans: tuple[Span, ...], duration: float) -> None:
    assert spans[0].start >= 0
    assert spans[-1].end <= duration + 1e-3
    assert all(span.start < span.end for span in spans)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(spans))


def test_every_word_of_every_sentence_has_a_time_in_order_and_known_phonemes(synthesiser: Synthesiser) -> None:
    for sentence in sentences():
        result = synthesiser.say(sentence, Voice(name="en-us+f2"))
        assert {bare(phoneme.name) for phoneme in result.phonemes} <= set(PHONEMES)
        assert [word.name for word in result.words] == sentence.split()
        check_times(result.words, result.duration)
        check_times(result.phonemes, result.duration)


def test_contractions_and_joined_words_keep_their_own_times(synthesiser: Synthesiser) -> None:
    sentence = "I can't be in the kitchen -- it's twenty-five miles... OK?"
    result = synthesiser.say(sentence, Voice())
    assert [word.name for word in result.words] == [word for word in sentence.split() if word != "--"]
    check_times(result.words, result.duration)


def test_a_pause_is_part_of_no_word(synthesiser: Synthesiser) -> None:
    result = synthesiser.say("Stop. Go.", Voice())
    stop, go = result.words
    assert go.start - stop.end > 0.1
    between = result.samples[int((stop.end + 0.05) * RATE) : int((go.start - 0.02) * RATE)]
    assert np.abs(between).max() < 0.1 * np.abs(result.samples).max()


def test_the_voice_is_audible(synthesiser: Synthesiser) -> None:
    sentence = "This is how somebody sounds who speaks."
    plain = synthesiser.say(sentence, Voice(rate=150, volume=50))
    assert synthesiser.say(sentence, Voice(rate=200, volume=50)).duration < 0.85 * plain.duration
    assert synthesiser.say(sentence, Voice(rate=150, volume=100)).samples.std() > 1.5 * plain.samples.std()
    assert plain.samples.dtype == np.float32
    assert np.abs(plain.samples).max() <= 1


def test_lips_close_on_m_and_open_on_a_vowel(synthesiser: Synthesiser) -> None:
    result = synthesiser.say("Mama", Voice())
    jaws = [mouth(phoneme.name).jaw for phoneme in result.phonemes]
    assert jaws[0] == jaws[2] == 0
    assert min(jaws[1], jaws[3]) > 0.3
    assert mouth("'oU").round > 0.5
    assert mouth("_:") == (0, 0)


@pytest.mark.parametrize("frequency", [100, 1000, 5000, 6500])
def test_resampling_keeps_a_sine(frequency: int) -> None:
    before = np.sin(2 * np.pi * frequency * np.arange(22_050) / 22_050)
    after = resample(before)
    assert len(after) == 16_000
    expected = np.sin(2 * np.pi * frequency * np.arange(16_000) / 16_000)
    assert np.abs(after - expected)[100:-100].max() < 2e-3


def test_resampling_removes_what_16_khz_cannot_hold() -> None:
    assert np.abs(resample(np.sin(2 * np.pi * 9000 * np.arange(22_050) / 22_050))[100:-100]).max() < 1e-3


def test_resampling_nothing_gives_nothing() -> None:
    assert len(resample(np.zeros(0))) == 0


def test_without_espeak_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object) -> object:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=re.escape('pip install "mesm[sample]"')):
        speech.library()
