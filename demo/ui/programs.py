"""The endpoints for programs, `/tag` and `/save_correction`; their types make the API page and the MCP tools."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal, TypedDict

import gradio as gr
import numpy as np
from gradio import FileData

from demo import logs
from demo.errors import BadInput, CorrectionsError, DemoError
from demo.images import decode, extension
from demo.settings import TAGGING_AT_ONCE
from demo.tagger import Tagger
from demo.thresholds import active
from demo.ui import visitor
from demo.ui.image_input import read_upload
from demo.ui.tagging import Tagging


class Tags(TypedDict):
    """labels: score by name, falling. threshold: the one used. model: its identity."""

    labels: dict[str, float]
    threshold: float
    model: str


def add_programs(tagging: Tagging) -> None:
    """Add the endpoints to the Blocks that is being built; they use the server's own model."""
    settings, hourly = tagging.settings, tagging.hourly

    def scored(image: object) -> tuple[bytes, Tagger, np.ndarray]:
        data, tagger = read_upload(image), tagging.models.own
        tagged = tagger.tag(decode(data, settings.max_upload_bytes))
        logs.event("image_tagged", seconds=tagged.milliseconds / 1000)
        return data, tagger, tagged.scores

    def tag(image: FileData, threshold: float | None = None) -> Tags:
        """Tag an image: the labels at or above the threshold, with their scores.

        Args:
            image: the image
            threshold: lowest score to list, 0 to 1; by default the one that the model recommends
        """
        with _told():
            _, tagger, scores = scored(image)
            cut = _threshold(threshold, tagger)
            names = tagger.checkpoint.labels.names
            return {
                "labels": {names[i]: float(scores[i]) for i in _falling(scores, cut)},
                "threshold": cut,
                "model": tagger.checkpoint.identity,
            }

    def save_correction(
        image: FileData, labels: list[str], rejected: list[str], reviewed: Literal["listed", "all"] = "listed"
    ) -> dict[str, Any]:
        """Save what is right on an image as one row of the corrections; gives the row.

        Kept are the image, the labels, the time, and the name of who is logged in or a random id. Where the server
        syncs its corrections they go to a dataset of the Hub, which may be public, the image without its metadata.

        Args:
            image: the image
            labels: labels that are present
            rejected: labels that are absent
            reviewed: all, if every other label of the model is absent; listed, if nothing is said of them
        """
        with _told():
            data, tagger, scores = scored(image)
            names, cut = tagger.checkpoint.labels.names, tagger.checkpoint.threshold
            address, started = visitor.address(settings.on_space), time.monotonic()
            if why := visitor.kept_from_saving(settings, hourly):
                raise CorrectionsError("Not saved.", why)
            try:
                row = tagging.corrections.save(
                    data,
                    extension(data),
                    labels=labels,
                    rejected=rejected,
                    reviewed=reviewed,
                    model_labels=[names[i] for i in _falling(scores, cut)],
                    threshold=cut,
                    model=tagger.checkpoint.identity,
                    annotator=visitor.annotator(),
                    vocabulary=names,
                )
            except DemoError:
                hourly.give_back(address)
                raise
            logs.event("correction_saved", count=1, seconds=time.monotonic() - started)
            tagging.own_curves.corrected(row.model)
            return asdict(row)

    gr.api(tag, api_name="tag", concurrency_limit=TAGGING_AT_ONCE)
    gr.api(save_correction, api_name="save_correction")


def _falling(scores: np.ndarray, threshold: float) -> list[int]:
    """Positions of the scores (L,) at or above a threshold, in falling score."""
    is_active = active(scores, threshold)
    return [int(i) for i in np.argsort(-scores, kind="stable") if is_active[i]]


def _threshold(given: object, tagger: Tagger) -> float:
    if given is None:
        return tagger.checkpoint.threshold
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise BadInput(f"The threshold is {given!r}.", next_step="Use a number from 0 to 1.")
    return float(given)


@contextmanager
def _told() -> Iterator[None]:
    """What went wrong reaches the program as the message of the error."""
    try:
        yield
    except DemoError as error:
        raise gr.Error(str(error), print_exception=False) from error
