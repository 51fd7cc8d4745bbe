"""`mesm-data browse`: a list of utterances with filters on the left, the chosen utterance on the right."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from mesm_data.browse.sample_page import render_sample
from mesm_data.browse.selection import ANY, Catalogue, Query
from mesm_data.dataset.reader import Dataset
from mesm_data.pages.local_server import require_nicegui, serve

SHOWN = 200  # rows of the list


def browse(path: Path, *, port: int, ready: Callable[[str], object]) -> None:
    """Serve the dataset in `path` on this machine until the process is stopped. See `local_server.serve`."""
    require_nicegui()
    catalogue = Catalogue(Dataset(path))
    _add_sample_route(catalogue.dataset)
    serve(lambda: _page(catalogue), title=f"{catalogue.dataset.schema.name}: mesm", port=port, ready=ready)


def _add_sample_route(dataset: Dataset) -> None:
    from nicegui import app
    from starlette.responses import HTMLResponse

    @app.get("/sample/{key:path}")
    def sample(key: str) -> HTMLResponse:
        if key not in dataset.rows or dataset.rows[key]["status"] != "ok":
            return HTMLResponse("there is no such utterance", status_code=404)
        return HTMLResponse(render_sample(dataset, key))


def _page(catalogue: Catalogue) -> None:
    from nicegui import ui

    dataset = catalogue.dataset
    titles = {value: name for one in dataset.schema.labels.values() for value, name in one.values.items() if name}
    state = {"query": Query()}
    ui.query(".nicegui-content").classes("p-0 gap-0")

    def options(values: list[str]) -> dict[str, str]:
        return {ANY: "all", **{value: titles.get(value, value) for value in values}}

    def change(**changes: str) -> None:
        state["query"] = replace(state["query"], **changes)
        rows.refresh()

    def choose(key: str) -> None:
        frame.set_content(
            f'<iframe src="/sample/{quote(key)}" title="utterance" class="w-full h-screen border-0"></iframe>'
        )

    @ui.refreshable
    def rows() -> None:
        keys = list(catalogue.select(state["query"]))
        more = f", the first {SHOWN} are listed" if len(keys) > SHOWN else ""
        ui.label(f"{len(keys):,} utterances{more}").classes("text-sm opacity-70 px-2")
        with ui.list().props("dense separator").classes("w-full"):
            for key in keys[:SHOWN]:
                row = catalogue.rows[key]
                label = ", ".join(titles.get(value, value) for value in catalogue.values(row))
                with ui.item(on_click=lambda key=key: choose(key)), ui.item_section():
                    ui.item_label(key)
                    ui.item_label(f"{label or 'no label'} · {row['speaker'] or '–'}").props("caption")

    with ui.row(wrap=False).classes("w-full h-screen gap-0"):
        with ui.column().classes("h-screen overflow-auto gap-2 p-3").style("width: 22rem; flex: none"):
            ui.label(dataset.schema.title or dataset.schema.name).classes("text-base font-bold px-2")
            if dataset.info["synthetic"]:
                ui.label("Synthetic data").classes("text-sm text-deep-orange-9 font-bold px-2")
            choices = (
                ("Class", "label", catalogue.labels),
                ("Speaker", "speaker", catalogue.speakers),
                ("Flag", "flag", catalogue.flags),
                ("Part of a split", "part", list(catalogue.parts)),
            )
            for name, field, values in choices:
                if values:
                    ui.select(
                        options(values), value=ANY, label=name, with_input=len(values) > 12,
                        on_change=lambda event, field=field: change(**{field: event.value or ANY}),
                    ).props("dense outlined").classes("w-full")  # fmt: skip
            search = ui.input("Transcript or key", on_change=lambda event: change(text=event.value or ANY))
            search.props("dense outlined clearable debounce=300").classes("w-full")
            rows()
        with ui.column().classes("h-screen grow p-0"):
            frame = ui.html("", sanitize=False).classes("w-full")
    if dataset.keys:
        choose(dataset.keys[0])
