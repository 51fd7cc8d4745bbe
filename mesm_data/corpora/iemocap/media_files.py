"""IEMOCAP's media files: those of an utterance, and those of utterances that no text file lists."""

from collections.abc import Collection, Iterable

from mesm_data.corpora.iemocap.ids import dialog_of, parse_dialog_id, parse_utterance_id, session_of
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.schema.recordings import AudioSource

VIDEO = "dialog/avi/DivX"
DIALOG_AUDIO = "dialog/wav"
AUDIO = "sentences/wav"

_VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv")
_DIALOG_MEDIA = ((DIALOG_AUDIO, (".wav",)), (VIDEO, _VIDEO_SUFFIXES))


def find_video(tree: SourceTree, dialog: str) -> str | None:
    """Return the video of a dialog. Some users have re-encoded the AVIs."""
    videos = (tree.file(f"{session_of(dialog)}/{VIDEO}", dialog + suffix) for suffix in _VIDEO_SUFFIXES)
    return next((video for video in videos if video), None)


def find_audio(tree: SourceTree, id_: str, *, channel: int, span: tuple[float, float]) -> tuple[AudioSource, ...]:
    """Return the sentence wav and the speaker's channel of the dialog wav; the left channel is the marker wearer's."""
    dialog = dialog_of(id_)
    session = session_of(dialog)
    sentence = tree.file(f"{session}/{AUDIO}/{dialog}", f"{id_}.wav")
    whole = tree.file(f"{session}/{DIALOG_AUDIO}", f"{dialog}.wav")
    sources = []
    if sentence:
        sources.append(AudioSource(path=sentence))
    if whole:
        sources.append(AudioSource(path=whole, channel=channel, span=span, channel_per_speaker=True))
    return tuple(sources)


def find_unlisted_wavs(tree: SourceTree, sessions: Iterable[str], known: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return, by dialog, the ids of sentence wavs that no text file lists.

    A note names each dialog with such wavs, and each dialog with media but without text files.

    Args:
        tree: the files of the corpus.
        sessions: the names of the sessions' folders.
        known: the ids of each dialog in the text files.
    """
    unlisted: dict[str, list[str]] = {}
    for session in sessions:
        wavs: dict[str, list[str]] = {}
        for name in tree.folders(f"{session}/{AUDIO}"):
            if dialog := parse_dialog_id(name):
                wavs[dialog] = _sentence_wavs(tree, f"{session}/{AUDIO}/{name}", dialog)
        dialog_media = [_dialogs_in(tree, f"{session}/{folder}", suffixes) for folder, suffixes in _DIALOG_MEDIA]
        for dialog in sorted({*wavs, *dialog_media[0], *dialog_media[1]}):
            ids = wavs.get(dialog, [])
            if unknown := sorted({*ids}.difference(known.get(dialog, ()))):
                unlisted[dialog] = unknown
            if dialog not in known:
                wav, video = ("a" if dialog in dialogs else "no" for dialogs in dialog_media)
                media = f"{len(ids)} sentence wavs, {wav} dialog wav and {video} video"
                sentence = f"{session}: {dialog} has {media}, but no text: no evaluation or transcription names it"
                tree.notes.add("dialogs with media and no text", sentence)
            elif unknown:
                media = f"{len(unknown)} sentence wavs that no text file lists, such as {unknown[0]}"
                tree.notes.add("dialogs with sentence wavs that no text file lists", f"{session}: {dialog} has {media}")
    return unlisted


def _dialogs_in(tree: SourceTree, folder: str, suffixes: tuple[str, ...]) -> Collection[str]:
    """Return the dialogs that the files of a folder are named after."""
    stems = (name.rpartition(".")[0] for name in tree.files(folder) if name.endswith(suffixes))
    return {dialog for stem in stems if (dialog := parse_dialog_id(stem))}


def _sentence_wavs(tree: SourceTree, folder: str, dialog: str) -> list[str]:
    """Return the ids of the sentence wavs in the folder of a dialog."""
    stems = (name.removesuffix(".wav") for name in tree.files(folder) if name.endswith(".wav"))
    return [id_ for stem in stems if (id_ := parse_utterance_id(stem)) and dialog_of(id_) == dialog]
