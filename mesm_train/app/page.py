"""`mesm-train app`: drop or record a clip, see what the model predicts and why. On this machine only."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mesm_train
from mesm_data.errors import MesmError
from mesm_data.pages.local_server import require_nicegui, serve
from mesm_train.app.jobs import MAX_BYTES, MAX_SECONDS, Results, new_upload_folder, predict_upload, safe_name
from mesm_train.data.batch import MODALITY_NAMES
from mesm_train.inference.predictor import Predictor

if TYPE_CHECKING:
    from nicegui.events import UploadEventArguments

RECORDED_SECONDS = 5
FACES: dict[str, Any] = {"largest": None, "left": "left", "right": "right"}
# Records from the camera and the microphone and hands the clip to the upload element, as if it had been dropped there.
RECORD = """
(async () => {
  const uploader = getElement(%(uploader)d).$refs.qRef;
  let stream;
  try { stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true }); }
  catch (error) { emitEvent("recording-failed", String(error.message || error)); return; }
  const recorder = new MediaRecorder(stream), parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = () => {
    stream.getTracks().forEach((track) => track.stop());
    uploader.addFiles([new File(parts, "recording.webm", { type: "video/webm" })]);
  };
  recorder.start();
  setTimeout(() => recorder.stop(), %(milliseconds)d);
})();
"""


def run_app(run: str, *, device: str, glove: Path | None, port: int, ready: Callable[[str], object]) -> None:
    """Serve the model of `run` until the process is stopped. See `mesm_train.load` and `local_server.serve`."""
    require_nicegui()
    predictor = mesm_train.load(run, device=device, glove=glove)
    results = Results()
    _add_result_route(results)
    turn = asyncio.Lock()
    serve(
        lambda: Page(predictor, results, turn).build(),
        title=f"{predictor.name}: mesm", port=port, ready=ready, max_body=MAX_BYTES + 2**20,
    )  # fmt: skip


def _add_result_route(results: Results) -> None:
    from nicegui import app
    from starlette.responses import HTMLResponse

    @app.get("/result/{token}")
    def result(token: str) -> HTMLResponse:
        page = results.get(token)
        return HTMLResponse(page or "this result is no longer kept", status_code=200 if page else 404)


class Page:
    """The page of one visitor. `turn`: predictions of all visitors take turns."""

    def __init__(self, predictor: Predictor, results: Results, turn: asyncio.Lock) -> None:
        self._predictor, self._results, self._turn = predictor, results, turn

    def build(self) -> None:
        """Put the elements on the page."""
        from nicegui import ui

        self._status: ui.label
        predictor, limit = self._predictor, f"{MAX_BYTES // 10**6} MB"
        ui.on("recording-failed", lambda event: self._say(f"nothing was recorded: {event.args}"))
        with ui.column().classes("w-full max-w-6xl mx-auto gap-3 p-4"):
            ui.label(predictor.name).classes("text-2xl font-bold")
            reads = ", ".join(MODALITY_NAMES[m] for m in predictor.modalities)
            ui.label(f"Reads {reads}; trained on {predictor.trained_on}.").classes("text-sm opacity-70")
            with ui.row().classes("w-full items-center gap-4"):
                self._text = ui.input("What is said in the clip").props("outlined dense").classes("grow")
                self._face = ui.select(list(FACES), value="largest", label="Face").props("outlined dense")
                self._face.classes("w-32")
                ui.button(f"Record {RECORDED_SECONDS} s", icon="videocam", on_click=self._record)
            self._upload = ui.upload(
                label=f"Drop a video or audio file: up to {MAX_SECONDS:.0f} s and {limit}", auto_upload=True,
                max_file_size=MAX_BYTES, on_upload=self._predict,
                on_rejected=lambda: self._say(f"the file is larger than {limit}, or no video or audio"),
            )  # fmt: skip
            self._upload.props('accept="video/*,audio/*,.mkv" flat bordered').classes("w-full")
            with ui.row().classes("items-center gap-3"):
                self._spinner = ui.spinner(size="sm")
                self._spinner.set_visibility(False)
                self._status = ui.label("Nothing leaves this machine, and uploads are deleted after the prediction.")
                self._status.classes("text-sm")
            self._frame = ui.html("", sanitize=False).classes("w-full")

    async def _predict(self, event: "UploadEventArguments") -> None:
        """Predict an uploaded clip, and show the result or what went wrong."""
        from nicegui import run

        name, folder = event.file.name, new_upload_folder()
        file = folder / safe_name(name)
        self._say(f"{name}: decoding, detecting faces, predicting …")
        self._spinner.set_visibility(True)
        try:
            await event.file.save(file)
            async with self._turn:
                text, face = str(self._text.value or ""), FACES[str(self._face.value)]
                page = await run.io_bound(predict_upload, self._predictor, file, text=text, face=face)
        except MesmError as error:
            self._say(str(error))
        except Exception as error:  # a visitor sees what went wrong; the process goes on
            self._say(f"{name} could not be predicted ({type(error).__name__}: {error})")
        else:
            if page is not None:  # None: the server is stopping
                self._show(page)
                self._say(f"{name}: done; the uploaded file is deleted")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._spinner.set_visibility(False)
            self._upload.reset()

    def _say(self, sentence: str) -> None:
        self._status.set_text(sentence)

    def _show(self, page: str) -> None:
        address = f"/result/{self._results.add(page)}"
        style = 'class="w-full border-0" style="height: 92vh"'
        self._frame.set_content(f'<iframe src="{address}" title="prediction" {style}></iframe>')

    def _record(self) -> None:
        from nicegui import ui

        self._say(f"recording {RECORDED_SECONDS} s …")
        ui.run_javascript(RECORD % {"uploader": self._upload.id, "milliseconds": 1000 * RECORDED_SECONDS})
