"""`mesm-train app`: drop or record a clip, see what the model predicts and why. On this machine only."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mesm_train
from mesm_data.errors import MesmError
from mesm_data.pages.local_server import require_nicegui, serve
from mesm_train.app.jobs import MAX_BYTES, MAX_SECONDS, Results, new_upload_folder, predict_upload, safe_name
from mesm_train.inference.clips import NAMES as MODALITIES
from mesm_train.inference.predictor import Predictor

RECORDED_SECONDS = 5
FACES: dict[str, Any] = {"largest": None, "left": "left", "right": "right"}
# Records from the camera and the microphone and hands the clip to the upload element, as if it had been dropped there.
RECORD = """
(async () => {
  const button = getElement(%(button)d).$el, uploader = getElement(%(uploader)d).$refs.qRef;
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


def run_app(run: Path, *, device: str, port: int, ready: Callable[[str], object]) -> None:
    """Serve the model of `run` until the process is stopped. See `local_server.serve`."""
    require_nicegui()
    predictor = mesm_train.load(run, device=device)
    results = Results()
    _add_result_route(results)
    page = _page(predictor, results, asyncio.Lock())
    serve(page, title=f"{predictor.name}: mesm", port=port, ready=ready, max_body=MAX_BYTES + 2**20)


def _add_result_route(results: Results) -> None:
    from nicegui import app
    from starlette.responses import HTMLResponse

    @app.get("/result/{token}")
    def result(token: str) -> HTMLResponse:
        page = results.get(token)
        return HTMLResponse(page or "this result is no longer kept", status_code=200 if page else 404)


def _page(predictor: Predictor, results: Results, turn: asyncio.Lock) -> Callable[[], None]:
    """The page for each visitor; predictions take turns."""
    from nicegui import events, run, ui

    def page() -> None:
        async def predict(event: events.UploadEventArguments) -> None:
            folder = new_upload_folder()
            file = folder / safe_name(event.file.name)
            status.set_text(f"{event.file.name}: decoding, detecting faces, predicting …")
            spinner.set_visibility(True)
            try:
                await event.file.save(file)
                async with turn:
                    html = await run.io_bound(
                        predict_upload, predictor, file, text=text.value or "", face=FACES[face.value]
                    )
            except MesmError as error:
                status.set_text(str(error))
            except Exception as error:  # a visitor sees what went wrong; the process goes on
                status.set_text(f"{event.file.name} could not be predicted ({type(error).__name__}: {error})")
            else:
                status.set_text(f"{event.file.name}: done; the uploaded file is deleted")
                address = f"/result/{results.add(html)}"
                frame.set_content(
                    f'<iframe src="{address}" title="prediction" class="w-full border-0" style="height: 92vh"></iframe>'
                )
            finally:
                spinner.set_visibility(False)
                upload.reset()

        async def record() -> None:
            status.set_text(f"recording {RECORDED_SECONDS} s …")
            ids = {"button": button.id, "uploader": upload.id, "milliseconds": 1000 * RECORDED_SECONDS}
            ui.run_javascript(RECORD % ids)

        ui.on("recording-failed", lambda event: status.set_text(f"nothing was recorded: {event.args}"))
        with ui.column().classes("w-full max-w-6xl mx-auto gap-3 p-4"):
            ui.label(predictor.name).classes("text-2xl font-bold")
            reads = ", ".join(MODALITIES[m] for m in predictor.modalities)
            ui.label(f"Reads {reads}; trained on {predictor.spec.corpus}.").classes("text-sm opacity-70")
            with ui.row().classes("w-full items-center gap-4"):
                text = ui.input("What is said in the clip").props("outlined dense").classes("grow")
                face = ui.select(list(FACES), value="largest", label="Face").props("outlined dense").classes("w-32")
                button = ui.button(f"Record {RECORDED_SECONDS} s", icon="videocam", on_click=record)
            upload = ui.upload(
                label=f"Drop a video or audio file: up to {MAX_SECONDS:.0f} s and {MAX_BYTES // 10**6} MB",
                auto_upload=True, max_file_size=MAX_BYTES, on_upload=predict,
                on_rejected=lambda: status.set_text(f"the file is larger than {MAX_BYTES // 10**6} MB"),
            ).props('accept="video/*,audio/*,.mkv" flat bordered').classes("w-full")  # fmt: skip
            with ui.row().classes("items-center gap-3"):
                spinner = ui.spinner(size="sm")
                spinner.set_visibility(False)
                status = ui.label("Nothing leaves this machine, and uploads are deleted after the prediction.")
                status.classes("text-sm").mark("status")
            frame = ui.html("", sanitize=False).classes("w-full")

    return page
