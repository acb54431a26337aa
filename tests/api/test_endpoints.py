from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import attrs
import pytest
from attrs.exceptions import FrozenInstanceError
from support import ROOT

from teak_async import models
from teak_async._api.endpoints import ENDPOINTS, Effect, Endpoint, endpoint_of
from teak_async._limits.session_limits import Limits
from teak_async.errors import InvalidRequest
from teak_async.models import (
    AddressRequest,
    CategorySubscriptionChange,
    Change,
    Channel,
    GetExclusion,
    GetSubscription,
    Identify,
    PageRequest,
    PlayerRequest,
    PlayerSession,
    Request,
    Response,
    SetCategorySubscription,
    SetEmailCategorySubscription,
    SetSubscription,
    SubscriptionChange,
    SubscriptionRequest,
    SubscriptionStatus,
)

STATUS = "/v2/desktop_push/subscription_status"
IDENTIFY = Identify("p1", country_code="US")
GET = GetSubscription("p1")
SET = SetSubscription("p1", "opt_in")
SET_CATEGORY = SetCategorySubscription("p1", "sales", "opt_in")


@pytest.mark.parametrize(
    ("request_", "name", "method", "bucket", "limit", "effect", "response", "success"),
    [
        (IDENTIFY, "identify", "POST", "/v2/identify", 200, Effect.RECORD, PlayerSession, 201),
        (GET, "read status", "GET", STATUS, 300, Effect.READ, SubscriptionStatus, 200),
        (SET, "set state", "POST", STATUS, 300, Effect.SET, SubscriptionChange, 200),
        (
            SET_CATEGORY,
            "set category state",
            "POST",
            f"{STATUS}/:category_identifier",
            300,
            Effect.SET,
            CategorySubscriptionChange,
            200,
        ),
    ],
)
def test_the_documented_table(
    request_: Request,
    name: str,
    method: str,
    bucket: str,
    limit: int,
    effect: Effect,
    response: type[Response],
    success: int,
) -> None:
    """Each call has the method, bucket, limit, response and success status that Teak documents."""
    endpoint = endpoint_of(request_)
    assert (endpoint.name, endpoint.method, endpoint.bucket, endpoint.effect) == (name, method, bucket, effect)
    assert (endpoint.response, endpoint.success) == (response, success)
    assert getattr(Limits(), endpoint.limit) == limit


def test_complete() -> None:
    """Every request has its endpoint on each channel, and every response comes from one."""
    public = [value for name, value in vars(models).items() if isinstance(value, type) and name[0] != "_"]
    bases: set[Any] = {Request, PlayerRequest, AddressRequest, PageRequest, SubscriptionRequest, Response, Change}
    requests = {kind for kind in public if issubclass(kind, Request)} - bases
    on_channels = {(kind, channel) for kind in requests if issubclass(kind, SubscriptionRequest) for channel in Channel}
    others = {(kind, None) for kind in requests if not issubclass(kind, SubscriptionRequest)}
    assert set(ENDPOINTS) == on_channels | others
    responses = {kind: endpoint.response for (kind, _), endpoint in ENDPOINTS.items()}
    assert set(responses.values()) == {kind for kind in public if issubclass(kind, Response)} - bases
    # As in `Identify(Request[PlayerSession])`, which is what the type checker goes by.
    assert {kind: get_args(vars(kind)["__orig_bases__"][0]) for kind in requests} == {
        kind: (response,) for kind, response in responses.items()
    }


def test_buckets() -> None:
    """Reading and setting share a bucket, all categories together have another, identify a third."""
    assert endpoint_of(GET).bucket == endpoint_of(SET).bucket
    pushes = {endpoint.bucket for (_, channel), endpoint in ENDPOINTS.items() if channel}
    assert len(pushes) == 2 * len(Channel)
    assert {endpoint.bucket: endpoint.limit for endpoint in ENDPOINTS.values() if endpoint.bucket not in pushes} == {
        "/v2/identify": "identify",
        "/v2/email/subscription_status": "subscription",
        "/v2/email/subscription_status/:category_identifier": "subscription",
        "/v2/email": "email",
        "/v2/email/delivery_fault": "email",
        "/v2/email/unsubscriptions": "unsubscriptions",
        "/v2/exclusions": "exclusions",
        "/v2/exclusions/:user_id": "exclusions",
        "/v2/users": "removals",
        "/v2/opt_out_categories": "categories",
    }


def test_limits_are_teaks() -> None:
    """A figure that is left out is the one that Teak documents."""
    assert attrs.asdict(Limits(identify=100)) == {
        "identify": 100,
        "subscription": 300,
        "email": 300,
        "unsubscriptions": 50,
        "exclusions": 60,
        "removals": 60,
        "categories": 5,
    }


def test_names_are_distinct() -> None:
    """Logs, journals and traces tell the calls apart, and the channels."""
    assert len({endpoint.name for endpoint in ENDPOINTS.values()}) == len(ENDPOINTS)


@pytest.mark.parametrize(("key", "endpoint"), ENDPOINTS.items())
def test_in_path(key: tuple[type[Request], Channel | None], endpoint: Endpoint) -> None:
    """What is in the path is a field of the request: a category, or the player of an exclusion."""
    names = {SetCategorySubscription: "category", SetEmailCategorySubscription: "category", GetExclusion: "user_id"}
    assert set(endpoint.in_path) <= set(attrs.fields_dict(key[0]))
    assert endpoint.in_path == ((names[key[0]],) if key[0] in names else ())


@pytest.mark.parametrize("value", ["p1", None, Request(), PlayerRequest("p1"), SubscriptionRequest("p1")])
def test_what_is_no_request(value: Any) -> None:
    """What has no endpoint is refused, a base class of requests too."""
    with pytest.raises(InvalidRequest, match="not a request: "):
        endpoint_of(value)


def test_frozen() -> None:
    """The table cannot be changed by accident."""
    with pytest.raises(FrozenInstanceError):
        endpoint_of(IDENTIFY).success = 200  # type: ignore[misc] # what is refused


SIBLING = """
import importlib
import sys
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import teak_async

name = "teak_async.models.subscriptions"
source = Path(teak_async.__file__).with_name("models").joinpath("subscriptions.py").read_text(encoding="utf-8")
member = '    DESKTOP_PUSH = "desktop_push"\\n'
assert source.count(member) == 1
base = importlib.import_module("teak_async.models.base")
del sys.modules["teak_async.models"], teak_async.models
module = sys.modules[name] = module_from_spec(spec_from_loader(name, None))
exec(source.replace(member, member + '    SIBLING = "sibling_push"\\n'), vars(module))

from teak_async import models
from teak_async._api.codec import encode
from teak_async._api.structure import as_json
from teak_async._api.credentials import Credentials
from teak_async._api.endpoints import ENDPOINTS, endpoint_of
from teak_async._bulk.run import BUCKETS

print(len(BUCKETS) == len(ENDPOINTS) == len({kind for kind, _ in ENDPOINTS}) + 3 * (len(models.Channel) - 1))
for request in (
    models.GetSubscription("p1", channel="sibling_push"),
    models.SetSubscription("p1", "opt_in", channel=models.Channel.SIBLING),
    models.SetCategorySubscription("p1", "50%", "opt_in", channel="sibling_push"),
    models.GetSubscription("p1"),
):
    endpoint = endpoint_of(request)
    message = encode(endpoint, request, Credentials("1", "secret"))
    print(endpoint.name, BUCKETS[endpoint.name], message.path, message.query or message.body.decode())
    print(as_json(request))
"""


def test_a_sibling_channel_is_a_member_of_the_enumeration() -> None:
    """Another channel has names, paths, buckets and JSON of its own for each request, and the first one keeps its own."""
    ran = subprocess.run([sys.executable, "-c", SIBLING], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    own = STATUS.replace("desktop", "sibling")
    body = '{"game_id":"1","secret_key":"secret","state":"opt_in","user_id":"p1"}'
    assert ran.stdout.splitlines() == [
        "True",
        f"read status (sibling_push) {own} {own} user_id=p1&game_id=1&secret_key=secret",
        '{"channel":"sibling_push","user_id":"p1"}',
        f"set state (sibling_push) {own} {own} {body}",
        '{"channel":"sibling_push","state":"opt_in","user_id":"p1"}',
        f"set category state (sibling_push) {own}/:category_identifier {own}/50%25 {body}",
        '{"category":"50%","channel":"sibling_push","state":"opt_in","user_id":"p1"}',
        f"read status {STATUS} {STATUS} user_id=p1&game_id=1&secret_key=secret",
        '{"user_id":"p1"}',
    ]
