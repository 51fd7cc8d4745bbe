"""IEMOCAP's sound and picture: which file is an utterance's, and which files belong to no utterance of the texts."""

from collections.abc import Collection, Iterable

from mesm_data.corpora.iemocap.ids import dialog_named, dialog_of, session_of, utterance_named
from mesm_data.corpora.source_tree import Tree
from mesm_data.schema.recordings import AudioSource

VIDEO = "dialog/avi/DivX"
DIALOG_AUDIO = "dialog/wav"
AUDIO = "sentences/wav"

_VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv")
_WHOLE = ((DIALOG_AUDIO, (".wav",)), (VIDEO, _VIDEO_SUFFIXES))


def video_of(tree: Tree, dialog: str) -> str | None:
    """The video of a dialog; users have re-encoded the AVIs."""
    videos = (tree.file(f"{session_of(dialog)}/{VIDEO}", dialog + suffix) for suffix in _VIDEO_SUFFIXES)
    return next((video for video in videos if video), None)


def sound_of(tree: Tree, id_: str, *, channel: int, span: tuple[float, float]) -> tuple[AudioSource, ...]:
    """The sentence wav; else the speaker's channel of the dialog wav, of which the left is the marker wearer's."""
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


def only_heard(tree: Tree, sessions: Iterable[str], known: dict[str, list[str]]) -> dict[str, list[str]]:
    """Dialog -> the ids of the sentence wavs that are not `known` from its texts.

    A note names each dialog that has such wavs, or any media and no text at all.
    """
    found: dict[str, list[str]] = {}
    for session in sessions:
        wavs: dict[str, list[str]] = {}
        for name in tree.folders(f"{session}/{AUDIO}"):
            if dialog := dialog_named(name):
                wavs[dialog] = _wavs(tree, f"{session}/{AUDIO}/{name}", dialog)
        whole = [_named(tree, f"{session}/{folder}", suffixes) for folder, suffixes in _WHOLE]
        for dialog in sorted({*wavs, *whole[0], *whole[1]}):
            ids = wavs.get(dialog, [])
            if unknown := sorted({*ids}.difference(known.get(dialog, ()))):
                found[dialog] = unknown
            if dialog not in known:
                wav, video = ("a" if dialog in some else "no" for some in whole)
                media = f"{len(ids)} sentence wavs, {wav} dialog wav and {video} video"
                sentence = f"{session}: {dialog} has {media}, but no text: no evaluation or transcription names it"
                tree.notes.add("dialogs with media and no text", sentence)
            elif unknown:
                sentence = (
                    f"{session}: {dialog} has {len(unknown)} sentence wavs that no text names, such as {unknown[0]}"
                )
                tree.notes.add("dialogs with sentence wavs that no text names", sentence)
    return found


def _named(tree: Tree, folder: str, suffixes: tuple[str, ...]) -> Collection[str]:
    """The dialogs that files of a folder are named after."""
    stems = (name.rpartition(".")[0] for name in tree.files(folder) if name.endswith(suffixes))
    return {dialog for stem in stems if (dialog := dialog_named(stem))}


def _wavs(tree: Tree, folder: str, dialog: str) -> list[str]:
    """The ids of the sentence wavs in the folder of a dialog."""
    stems = (name.removesuffix(".wav") for name in tree.files(folder) if name.endswith(".wav"))
    return [id_ for stem in stems if (id_ := utterance_named(stem)) and dialog_of(id_) == dialog]
