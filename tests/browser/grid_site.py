"""A page with the Grid tab alone, over photos with made-up scores, and what tests do with it."""

from __future__ import annotations

import csv
import json
import socket
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import numpy as np
from playwright.sync_api import Locator, Page, expect

from demo.albums import Albums
from demo.checkpoint import Checkpoint, save_checkpoint
from demo.corrections import Corrections
from demo.models import Models, ref_of
from demo.settings import Settings
from demo.ui.desk import Desk
from demo.ui.grid_tab import GridTab
from demo.ui.page import launch_options
from demo.ui.tagging import Tagging


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class GridSite:
    """scores: (N, L) of the photos 000.png to N-1, L labels; rows of NaN are not tagged yet."""

    def __init__(
        self,
        page: Page,
        serve: Callable[..., str],
        folder: Path,
        checkpoint: Checkpoint,
        make_image: Callable[..., bytes],
        scores: np.ndarray,
    ) -> None:
        self.page, self.folder, self.scores = page, folder, scores
        save_checkpoint(folder / "model", checkpoint)
        (folder / "photos").mkdir()
        for seed in range(len(scores)):
            (folder / "photos" / f"{seed:03}.png").write_bytes(make_image(seed))
        settings = Settings(
            model=str(folder / "model"), corrections=folder / "corrections", images=folder / "photos", device="cpu"
        )
        self.models, self.albums = Models(settings), Albums(2, 100, 1 << 20)
        self.corrections = Corrections(settings.corrections)
        self.tagging = Tagging(settings, self.models, self.corrections, self.albums)
        self.album = self.tagging.own_album
        self.sheet = self.album.sheet(self.models.own)
        self.sheet.start = lambda tagger: None  # the scores are made up, so nothing is tagged
        for place in range(len(scores)):
            if not np.isnan(scores[place]).any():
                self.tag(place)
        with gr.Blocks(analytics_enabled=False) as blocks:
            desk = gr.State(Desk(lambda: ref_of(self.models.own)))
            swap = gr.Button("swap")
            with gr.Tabs(elem_id="tabs"):
                with gr.Tab("Other"):
                    gr.HTML("nothing")
                with gr.Tab("Grid"):
                    tab = GridTab(self.tagging, desk)
            tab.follow(swap.click(lambda: None))
        options = launch_options(settings, self.corrections, self.albums)
        options = {key: value for key, value in options.items() if key not in ("ssr_mode", "quiet", "js")}
        self.url = serve(blocks, server_port=free_port(), **options)

    def tag(self, place: int) -> None:
        self.album.prepared(place, lambda image: image)
        self.sheet.put(place, np.nan_to_num(self.scores[place], nan=0.5))

    def open(self, label: str = "") -> None:
        self.page.goto(self.url)
        self.enter()
        if label:
            self.choose(label)

    def enter(self) -> None:
        self.page.get_by_role("tab", name="Grid").click()
        expect(self.root).not_to_have_attribute("data-view", "busy")

    def choose(self, label: str) -> None:
        self.field.fill(label)
        self.page.keyboard.press("Enter")
        expect(self.root).to_have_attribute("data-view", "ready")
        expect(self.field).to_have_value(label)

    def id(self, name: str) -> Locator:
        return self.page.get_by_test_id(f"grid-{name}")

    @property
    def root(self) -> Locator:
        return self.page.get_by_test_id("grid")

    @property
    def field(self) -> Locator:
        return self.id("label")

    @property
    def tiles(self) -> Locator:
        return self.root.locator("[data-index]")

    def tile(self, place: int) -> Locator:
        return self.root.locator(f"[data-place='{place}']")

    def places(self) -> list[int]:
        """Of the tiles in the page, as they stand."""
        return [int(place) for place in self.tiles.evaluate_all("all => all.map(tile => tile.dataset.place)")]

    def expect_tile(self, place: int, band: str, mark: str = "", pending: bool = False) -> None:
        tile = self.tile(place)
        expect(tile).to_have_attribute("data-mark", mark)
        expect(tile).to_have_attribute("data-band", band)
        expect(tile).to_have_attribute("data-pending", str(pending).lower())

    def expect_counts(self, *words: str) -> None:
        for word in words:
            expect(self.id("counts")).to_contain_text(word)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def slide(self, threshold: float) -> None:
        self.id("threshold").fill(str(threshold))

    def save(self, state: str = "saved") -> None:
        self.id("save").click()
        expect(self.id("status")).to_have_attribute("data-state", state)

    def give(self, place: int, **changes: object) -> None:
        """A row of a photo, as if saved elsewhere."""
        values = {"labels": [], "rejected": [], "reviewed": "listed", "model_labels": [], "threshold": 0.5}
        values |= {"model": self.models.own.checkpoint.identity} | changes
        self.corrections.save(self.album.read(place), "png", **values)

    def rows(self) -> dict[int, dict[str, object]]:
        """Rows of the CSV by place, lists decoded."""
        with self.corrections.csv_path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row |= {name: json.loads(row[name]) for name in ("labels", "rejected", "model_labels")}
        places = {look.digest: place for place, look in enumerate(self.album.looks) if look}
        return {places[Path(row["file_name"]).stem]: row for row in rows}
