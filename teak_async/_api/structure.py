"""Convert requests and responses to plain data and back. No I/O.

A value of another type than documented is an error: nothing is converted silently.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar, get_args, get_origin

import orjson
from attrs import fields
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.orjson import make_converter

from teak_async.models import (
    Change,
    EmailAction,
    EmailState,
    ExclusionAction,
    ExclusionPage,
    PlayerRemoval,
    PlayerSession,
    PurgedChannels,
    Request,
    Response,
    State,
    Unsubscription,
    UnsubscriptionPage,
)

from .endpoints import ENDPOINTS

_T = TypeVar("_T")


def _strict(kind: type[_T]) -> Callable[[Any, Any], _T]:
    def check(value: Any, _: Any) -> _T:
        if type(value) is not kind:
            raise TypeError(f"must be {kind.__name__}, not {type(value).__name__}")
        return value

    return check


_check_text = _strict(str)
_STATES: Mapping[str, State] = {state.value: state for state in State}


def _check_optional_text(value: Any, _: Any) -> str | None:
    return None if value is None else _check_text(value, str)


def _time(value: Any, _: Any) -> datetime:
    return datetime.fromisoformat(_check_text(value, str))


def _structure_opt_out_states(value: Any, _: Any) -> Mapping[str, State | str]:
    states: dict[str, State | str] = {}
    for channel, entry in value.items():
        state = entry.get("state") if type(entry) is dict else None
        if type(state) is str:
            states[channel] = _STATES.get(state, state)
    for channel in ("email", "push", "sms"):
        if channel not in states:
            raise TypeError(f"{channel}.state must be str")
    return states


def _purged_address(value: Any, _: Any) -> str | None:
    return None if value is False else _check_text(value["email"], str)


def _cursor(value: Any, _: Any) -> str | None:
    return None if value is None else _check_optional_text(value["cursors"]["after"], str)


def _unsubscription_page(content: Any, _: Any) -> UnsubscriptionPage:
    lists = [value for value in content.values() if isinstance(value, list)]
    if len(lists) != 1:
        raise TypeError("must have one list, of unsubscriptions")  # no page of Teak's names its key
    entries = (Unsubscription(_check_text(entry["email"], str), entry) for entry in lists[0])
    return UnsubscriptionPage(tuple(entries), _cursor(content.get("paging"), None))


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _make_tuple_hook(kind: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
    (member, _) = get_args(kind)
    structure_member = _converter.get_structure_hook(member)

    def structure_tuple(value: Any, _: Any) -> tuple[Any, ...]:
        return tuple(structure_member(entry, member) for entry in _strict(list)(value, None))

    return structure_tuple


_converter = make_converter()
_converter.register_structure_hook(str, _check_text)
# cattrs' own hooks for this union look up the one for `str` each time, which takes longer than all the rest of a request.
_converter.register_structure_hook(str | None, _check_optional_text)
_converter.register_unstructure_hook(str | None, identity)
_converter.register_structure_hook(bool, _strict(bool))
_converter.register_structure_hook(datetime, _time)
_converter.register_unstructure_hook(datetime, datetime.isoformat)
_converter.register_structure_hook_factory(_is_tuple, _make_tuple_hook)
for _kind in (State, EmailState, EmailAction, ExclusionAction):
    _converter.register_structure_hook(_kind, lambda value, kind: kind(value))

_NAMES: dict[type, dict[str, str]] = {PlayerRemoval: {"found": "status"}, ExclusionPage: {"after": "paging"}}
"""Class → attributes that have another name in the body."""
_HOOKS: dict[type, dict[str, Callable[[Any, Any], Any]]] = {
    PlayerSession: {"opt_out_states": _structure_opt_out_states},
    PlayerRemoval: {"found": lambda value, _: value == "ok"},
    PurgedChannels: {"email": _purged_address},
    ExclusionPage: {"after": _cursor},
}
"""Class → attributes that are not written as their type is."""


def _structure_hook(kind: type) -> Callable[[Any, Any], Any]:
    names, hooks = _NAMES.get(kind, {}), _HOOKS.get(kind, {})
    overrides = {name: override(rename=names.get(name), struct_hook=hook) for name, hook in hooks.items()}
    if issubclass(kind, Change):
        # The client knows whether an attempt was repeated, whatever a response has under that name.
        overrides["repeated"] = override(omit=True)
    return make_dict_structure_fn(kind, _converter, **overrides)  # type: ignore[arg-type] # cattrs' own option is a flag


RESPONSES = frozenset(endpoint.response for endpoint in ENDPOINTS.values())
_converter.register_structure_hook(PurgedChannels, _structure_hook(PurgedChannels))
for _response in RESPONSES - {UnsubscriptionPage}:
    _converter.register_structure_hook(_response, _structure_hook(_response))
_converter.register_structure_hook(UnsubscriptionPage, _unsubscription_page)
_converter.register_unstructure_hook(
    PlayerSession, make_dict_unstructure_fn(PlayerSession, _converter, opt_out_states=override(unstruct_hook=dict))
)
for _request in {request for request, _ in ENDPOINTS}:
    _converter.register_unstructure_hook(_request, make_dict_unstructure_fn(_request, _converter, _cattrs_omit_if_default=True))

STRUCTURE: dict[type[Response], Callable[[Any, Any], Response]] = {
    response: _converter.get_structure_hook(response) for response in RESPONSES
}
"""Type of a response → the hook that makes one from a body."""
KEYS = {
    response: frozenset(_NAMES.get(response, {}).get(attribute.name, attribute.name) for attribute in fields(response))
    - {"repeated", "status"}
    for response in RESPONSES
}
"""Type of a response → the keys that Teak documents for its body beside `status`."""
_UNSTRUCTURE: dict[type, Callable[[Any], Any]] = {
    kind: _converter.get_unstructure_hook(kind)
    for (request, _), endpoint in ENDPOINTS.items()
    for kind in (request, endpoint.response)
}
"""Type of a request or response → its function to a dict."""


def as_json(value: Request | Response) -> str:
    """Return a request or response as JSON, the same for equal values: a journal knows a row by it."""
    return to_json(unstructure(value)).decode()


def unstructure(value: Request | Response) -> dict[str, Any]:
    """Return a request or response as a dict, ready for JSON; a request without its default values."""
    plain: dict[str, Any] = _UNSTRUCTURE[type(value)](value)
    return plain


def to_json(plain: dict[str, Any]) -> bytes:
    """Write plain data as JSON."""
    try:
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # orjson writes no lone surrogate; JSON can.
        return json.dumps(plain, sort_keys=True).encode()
