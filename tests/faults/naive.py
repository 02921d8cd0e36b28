"""A client for comparison, such as people write in an afternoon.

It asks in batches with `requests.post`, tries again after any error or 5xx, up to five times, reads
the answers by position, and stores them at the end. It has to fail the campaign; a campaign that it
passed would prove nothing.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pandas as pd
import requests

from .cases import Phase
from .places import Heard
from .server.people import Pair

ATTEMPTS = 5
_stores: dict[str, dict[Pair, Any]] = {}


def enrich(frame: pd.DataFrame, settings: dict[str, Any], heard: Heard) -> Phase:
    """One run of the naive client, in the shape that the judge reads."""
    started = time.monotonic()
    store = _stores.setdefault(f"{settings['base_url']} {settings['ledger']}", {})
    ended = ""
    fetched: dict[Pair, Any] = {}
    pairs = [(kind, value) for _, kind, value in _questions(frame)]
    try:
        todo = [pair for pair in pairs if pair not in store]
        for start in range(0, len(todo), settings["partition_size"]):
            batch = todo[start : start + settings["partition_size"]]
            fetched.update(zip(batch, _ask(batch, settings), strict=False))
    except Exception as error:
        ended = f"{type(error).__name__} {getattr(error, 'status', '')}".strip()
        heard.hear_error(error)
    else:
        store.update(fetched)
    return Phase(
        None if ended else _frame(frame, store), ended,
        {"credits_charged": sum(contact is not None for contact in fetched.values()) if not ended else 0},
        time.monotonic() - started,
    )  # fmt: skip


def _questions(frame: pd.DataFrame) -> list[tuple[int, str, str]]:
    kinds = {"email": "email", "linkedin_url": "social_profile", "phone": "phone"}
    column = frame.columns[0]
    return [(index, kinds[column], value) for index, value in enumerate(frame[column])]


def _ask(batch: list[Pair], settings: dict[str, Any]) -> list[Any]:
    query = [{"field_type": kind, "value": value} for kind, value in batch]
    required = [{"field_type": name} for name in settings.get("required_fields", ())]
    for attempt in range(ATTEMPTS):
        try:
            response = requests.post(
                f"{settings['base_url']}/v1/bulk-enrich",
                headers={"X-API-Key": settings["api_key"]},
                data={"query_list": json.dumps(query), "required_fields": json.dumps(required)},
                timeout=settings["timeout"],
            )
            response.raise_for_status()
            return [entry["enriched_contact"] for entry in response.json()["contacts"]]
        except Exception:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.05 * 2**attempt)
    raise AssertionError


def _frame(frame: pd.DataFrame, store: dict[Pair, Any]) -> pd.DataFrame:
    rows = []
    for _, kind, value in _questions(frame):
        known, contact = (kind, value) in store, store.get((kind, value))
        rows.append(
            {
                "eb_matched": contact is not None if known else None,
                "eb_status": ("matched" if contact is not None else "not_found") if known else "not_asked",
                "eb_field_type": kind,
                "eb_query": value,
                "eb_full_name": contact.get("full_name") if isinstance(contact, dict) else None,
            }
        )
    return pd.concat([frame, pd.DataFrame(rows).astype({"eb_matched": "boolean"})], axis="columns")
