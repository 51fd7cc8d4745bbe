"""Extract the speaker's faces and the clip of each utterance from a recording's video, in one pass over the frames.

    decode (Video, ImageSequence) -> sample (FrameSampler) -> crop (FaceTrack) and encode (ClipSet) -> VideoResult

If the recording's video is missing, broken, or ends before the utterance does, the utterance's own clip file (a video
file, or a folder of images) is read too, and the better of the two results is kept.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.clip_encoder import ClipResult, group_overlapping
from mesm_data.media.extraction_job import ExtractionJob, FaceTrack, FrameStream
from mesm_data.media.faces.crop import FaceCropper
from mesm_data.media.frame_sampling import FrameSampler, TimeSpan
from mesm_data.media.image_sequence import ImageSequence
from mesm_data.media.options import MediaOptions
from mesm_data.media.video import Video
from mesm_data.media.video_result import VideoResult, VideoSource, select_best
from mesm_data.schema.recordings import Recording, Utterance

LAG = Fraction(10)  # seconds: a frame that arrives later than this is out of order by more than any codec reorders


def extract_video(
    root: Path,
    recording: Recording,
    options: MediaOptions,
    sounds: Sequence[NDArray[np.int16]],
    scratch: Path,
    cropper: FaceCropper | None = None,
) -> list[VideoResult]:
    """Extract faces and clips of all utterances of a recording.

    Args:
        root: The folder of the corpus.
        recording: The recording.
        options: The options of the recipe.
        sounds: The sound of each utterance, int16 (n,), for its clip.
        scratch: The folder for clips.
        cropper: Crops the faces; by default with the detector of `options`, which must not need a model file.

    Returns:
        One result per utterance, in their order.
    """
    if cropper is None:
        cropper = FaceCropper(size=options.face_size, margin=options.face_margin, detector=options.detector())
    utterances, offset = recording.utterances, Fraction(options.video_offset)
    results = [VideoResult() for _ in utterances]
    if recording.video is not None:
        path = root / recording.video
        job = ExtractionJob(
            open=lambda: Video(path),
            name=recording.video,
            utterances=utterances,
            spans=[TimeSpan(start=to_fraction(u.start) + offset, end=to_fraction(u.end) + offset) for u in utterances],
            sounds=sounds,
            options=options,
            scratch=scratch,
            cropper=cropper,
        )
        results = process_video(job)
    for index, (utterance, sound) in enumerate(zip(utterances, sounds, strict=True)):
        if results[index].status == "ok":
            continue
        if utterance.clip_source:
            job = clip_file_job(root, utterance, options, sound, scratch, cropper, f"excerpt-{index}-")
            results[index] = select_best(results[index], process_video(job)[0])
        elif recording.video is None and recording.missing_video:
            results[index] = results[index].with_problems(recording.missing_video)
    return results


def clip_file_job(
    root: Path,
    utterance: Utterance,
    options: MediaOptions,
    sound: NDArray[np.int16],
    scratch: Path,
    cropper: FaceCropper,
    clip_prefix: str,
) -> ExtractionJob:
    """The job for an utterance's own clip file: a video file, or a folder of images."""
    excerpt = utterance.clip_source
    assert excerpt
    path, rate, images = root / excerpt.path, excerpt.rate, excerpt.images
    return ExtractionJob(
        open=lambda: Video(path) if rate is None else ImageSequence(path, images, rate),
        name=excerpt.path if rate is None else f"{excerpt.path}/{images}*.jpg",
        utterances=[utterance],
        spans=[TimeSpan(start=Fraction(0), end=to_fraction(utterance.end) - to_fraction(utterance.start))],
        sounds=[sound],
        options=options,
        scratch=scratch,
        cropper=cropper,
        clip_prefix=clip_prefix,
    )


def process_video(job: ExtractionJob) -> list[VideoResult]:
    """Decode one source: once for all faces and as many clips as may be encoded at a time, and again for other clips.

    Returns:
        One result per utterance. A source that cannot be read is a problem of each result.
    """
    results = [VideoResult() for _ in job.utterances]
    first, *others = (group_overlapping(job.spans) if job.options.clips else []) or [set()]
    try:
        results = extract_faces_and_clips(job, first)
        for indices in map(sorted, others):
            for index, clip in zip(indices, encode_clips(job.subset(indices)), strict=True):
                results[index] = results[index].with_clip(clip)
    except MesmError as error:
        results = [result.with_problems(f"{job.name}: {error}") for result in results]
    return results


def extract_faces_and_clips(job: ExtractionJob, clipped: Collection[int]) -> list[VideoResult]:
    """Crop the faces of all utterances, and encode the clips of the utterances `clipped`, in one pass.

    Raises:
        MesmError: The source cannot be opened.
    """
    tracks = [FaceTrack(job, index) for index in range(len(job.utterances))]
    with closing(job.open()) as stream, closing(job.clip_set()) as clips:
        sampler = FrameSampler(stream, job.spans, job.interval)
        for sampled in sampler:
            if sampled.grid_hits:  # whether a face is cropped does not depend on the clip
                tracks[sampled.index].add(sampled, stream.rate)
            if sampled.in_span and sampled.index in clipped:
                clips.add(sampled, *job.columns(sampled))
        return [
            video_result(job, index, track, stream, sampler.begin, sampler.end).with_clip(clips.collect(index))
            for index, track in enumerate(tracks)
        ]


def iter_faces(job: ExtractionJob, lag: Fraction = LAG) -> Iterator[tuple[int, VideoResult]]:
    """Crop the faces of all utterances in one pass, and yield the number and the result of each after its end.

    The results are those of `process_video` without clips. Of a long video, only the utterances of the last `lag`
    seconds are in memory. `lag`: what a damaged file shows that much too late is not among an utterance's problems.
    """
    pending = deque(sorted(range(len(job.utterances)), key=lambda index: job.spans[index].end))
    tracks: dict[int, FaceTrack] = {}

    def finish(
        index: int, stream: FrameStream, begin: Fraction | None, end: Fraction | None = None
    ) -> tuple[int, VideoResult]:
        track = tracks.pop(index) if index in tracks else FaceTrack(job, index)
        return index, video_result(job, index, track, stream, begin, end)

    try:
        with closing(job.open()) as stream:
            sampler, last = FrameSampler(stream, job.spans, job.interval), None
            for sampled in sampler:
                if last is not None and sampled.frame is not last:  # no more comes of what ended before `last`
                    while pending and job.spans[pending[0]].end + lag <= last.time:
                        yield finish(pending.popleft(), stream, sampler.begin)
                last = sampled.frame
                if sampled.grid_hits:
                    tracks.setdefault(sampled.index, FaceTrack(job, sampled.index)).add(sampled, stream.rate)
            for index in pending:
                yield finish(index, stream, sampler.begin, sampler.end)
    except MesmError as error:  # the source cannot be opened
        for index in pending:
            yield index, VideoResult().with_problems(f"{job.name}: {error}")


def encode_clips(job: ExtractionJob) -> list[ClipResult]:
    """Encode the clips of all utterances of the job in another pass over its source."""
    with closing(job.open()) as stream, closing(job.clip_set()) as clips:
        for sampled in FrameSampler(stream, job.spans, job.interval):
            if sampled.in_span:
                clips.add(sampled, *job.columns(sampled))
        return [clips.collect(index) for index in range(len(job.utterances))]


def video_result(
    job: ExtractionJob,
    index: int,
    track: FaceTrack,
    stream: FrameStream,
    video_begin: Fraction | None,
    video_end: Fraction | None,
) -> VideoResult:
    """The result of one utterance after the pass, without its clip.

    Args:
        job: The job.
        index: The number of the utterance.
        track: Its faces.
        stream: The source, decoded.
        video_begin: The time of the first frame of the source in seconds, None if there is none.
        video_end: The end of the source in seconds, or None if decoding stopped after the last utterance.
    """
    span, problems = job.spans[index], []
    status, source = "none", None
    damage = stream.damage(span.start, span.end)
    if damage:
        problems.append(f"{job.name}: {damage}")
    if video_begin is not None and video_begin >= span.end:  # its first frame shows what is behind the utterance
        problems.append(f"{job.name}: begins at {float(video_begin):.3f} s, where the utterance is over")
        return VideoResult(problems=problems)
    if track.faces:
        # A late frame is a still image of a healthy source, or the place where damage has cost frames.
        status = "partial" if damage and track.has_gap else "ok"
        folder = job.name.rpartition("/")[0]
        names = stream.names if isinstance(stream, ImageSequence) else ()
        source = VideoSource(
            path=job.name,
            span=(float(span.start), float(span.end)),
            images=tuple(f"{folder}/{name}" for name in names),
        )
    if video_begin is not None and video_begin > span.start + job.interval and track.faces:
        status = "partial"
        problems.append(f"{job.name}: begins at {float(video_begin):.3f} s, the utterance at {float(span.start):.3f} s")
    if video_end is not None and video_end < span.end - (1 / stream.rate if stream.rate else 0):
        status = "partial" if track.faces else "none"
        stopped = f" ({stream.stopped})" if stream.stopped else ""
        length = f"ends at {float(video_end):.3f} s{stopped}, the utterance at {float(span.end):.3f} s"
        problems.append(f"{job.name}: {length}")
    elif not track.faces:
        problems.append(f"{job.name}: shows no picture of the utterance")
    return VideoResult(
        faces=track.faces,
        times=track.times,
        status=status,
        fps=track.fps,
        size=track.size,
        source=source,
        problems=problems,
    )


def to_fraction(second: float) -> Fraction:
    """A number of seconds as it is written: 0.1 is exactly a tenth."""
    return Fraction(repr(second))
