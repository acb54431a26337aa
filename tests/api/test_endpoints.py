from __future__ import annotations

from typing import Any, get_args

import attrs
import pytest
from attrs.exceptions import FrozenInstanceError

from teak_async import models
from teak_async._api.endpoints import ENDPOINTS, Effect, Endpoint
from teak_async._limits.session_limits import Limits
from teak_async.models import (
    CategorySubscriptionChange,
    GetSubscription,
    Identify,
    PlayerSession,
    Request,
    Response,
    SetCategorySubscription,
    SetSubscription,
    SubscriptionChange,
    SubscriptionStatus,
)

STATUS = "/v2/desktop_push/subscription_status"


@pytest.mark.parametrize(
    ("request_type", "method", "bucket", "limit", "effect", "response", "success"),
    [
        (Identify, "POST", "/v2/identify", 200, Effect.RECORD, PlayerSession, 201),
        (GetSubscription, "GET", STATUS, 300, Effect.READ, SubscriptionStatus, 200),
        (SetSubscription, "POST", STATUS, 300, Effect.SET, SubscriptionChange, 200),
        (SetCategorySubscription, "POST", f"{STATUS}/:category_identifier", 300, Effect.SET, CategorySubscriptionChange, 200),
    ],
)
def test_the_documented_table(
    request_type: type[Request],
    method: str,
    bucket: str,
    limit: int,
    effect: Effect,
    response: type[Response],
    success: int,
) -> None:
    """Each call has the method, bucket, limit, response and success status that Teak documents."""
    endpoint = ENDPOINTS[request_type]
    assert (endpoint.method, endpoint.bucket, endpoint.effect) == (method, bucket, effect)
    assert (endpoint.response, endpoint.success) == (response, success)
    assert getattr(Limits(), endpoint.limit) == limit


def test_complete() -> None:
    """Every request has a row, and every response comes from one."""
    public = [value for value in vars(models).values() if isinstance(value, type)]
    bases: set[Any] = {Request, Response}
    assert set(ENDPOINTS) == {kind for kind in public if issubclass(kind, Request)} - bases
    responses = {kind: endpoint.response for kind, endpoint in ENDPOINTS.items()}
    assert set(responses.values()) == {kind for kind in public if issubclass(kind, Response)} - bases
    # As in `Identify(Request[PlayerSession])`, which is what the type checker goes by.
    assert {kind: get_args(vars(kind)["__orig_bases__"][0]) for kind in ENDPOINTS} == {
        kind: (response,) for kind, response in responses.items()
    }


def test_budgets() -> None:
    """Reading and setting share a bucket, all categories together have another, identify a third."""
    budgets = {kind: endpoint.bucket for kind, endpoint in ENDPOINTS.items()}
    assert budgets[GetSubscription] == budgets[SetSubscription]
    assert len(set(budgets.values())) == 3


def test_names_are_distinct() -> None:
    """Logs can tell the calls apart."""
    assert len({endpoint.name for endpoint in ENDPOINTS.values()}) == len(ENDPOINTS)


@pytest.mark.parametrize(("kind", "endpoint"), ENDPOINTS.items())
def test_in_path(kind: type[Request], endpoint: Endpoint) -> None:
    """What is named to be in the path is a field of the request and a placeholder of the path."""
    assert set(endpoint.in_path) <= set(attrs.fields_dict(kind))
    assert all(f"{{{name}}}" in endpoint.template for name in endpoint.in_path)


def test_only_the_category_is_in_a_path() -> None:
    """No request but the category's puts a field of its own into the path."""
    assert {kind: endpoint.in_path for kind, endpoint in ENDPOINTS.items() if endpoint.in_path} == {
        SetCategorySubscription: ("category",)
    }


@pytest.mark.parametrize("channel", ["push", "email"])
def test_the_channel_is_a_column(channel: str) -> None:
    """A sibling channel is the same row with another word in one column."""
    sibling = attrs.evolve(ENDPOINTS[SetCategorySubscription], channel=channel)
    assert sibling.bucket == f"/v2/{channel}/subscription_status/:category_identifier"


def test_frozen() -> None:
    """The table cannot be changed by accident."""
    with pytest.raises(FrozenInstanceError):
        ENDPOINTS[Identify].success = 200  # type: ignore[misc] # what is refused
