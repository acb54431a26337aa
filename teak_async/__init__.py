"""The asyncio client for Teak's server API, with the rate limits built in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from ._bulk.outcomes import BulkReport as BulkReport
    from ._bulk.outcomes import Outcome as Outcome
    from ._bulk.outcomes import Row as Row
    from ._bulk.run import BulkRun as BulkRun
    from ._client.deadline import Deadline as Deadline
    from ._client.retry import RetryPolicy as RetryPolicy
    from ._client.transport import Timeout as Timeout
    from ._limits.bucket import Rate as Rate
    from ._limits.session_limits import Limits as Limits
    from ._notify import Hook as Hook
    from ._parts.categories import Categories as Categories
    from ._parts.email import Email as Email
    from ._parts.exclusions import Exclusions as Exclusions
    from ._parts.exclusions import Players as Players
    from ._parts.subscriptions import Subscriptions as Subscriptions
    from ._session import TeakSession as TeakSession
    from .errors import BacklogFull as BacklogFull
    from .errors import CertificateError as CertificateError
    from .errors import ConnectFailed as ConnectFailed
    from .errors import ConnectionLost as ConnectionLost
    from .errors import DeadlinePassed as DeadlinePassed
    from .errors import Delivery as Delivery
    from .errors import Forbidden as Forbidden
    from .errors import GameNotFound as GameNotFound
    from .errors import InvalidRequest as InvalidRequest
    from .errors import JournalError as JournalError
    from .errors import LedgerError as LedgerError
    from .errors import LedgerUnavailable as LedgerUnavailable
    from .errors import NotFound as NotFound
    from .errors import Outage as Outage
    from .errors import PlayerNotFound as PlayerNotFound
    from .errors import RateLimited as RateLimited
    from .errors import ServerError as ServerError
    from .errors import SessionClosed as SessionClosed
    from .errors import TeakError as TeakError
    from .errors import TimedOut as TimedOut
    from .errors import TransportError as TransportError
    from .errors import UnexpectedResponse as UnexpectedResponse
    from .errors import UnknownState as UnknownState
    from .models import CategorySubscriptionChange as CategorySubscriptionChange
    from .models import Channel as Channel
    from .models import ClearDeliveryFault as ClearDeliveryFault
    from .models import CreateExclusion as CreateExclusion
    from .models import DeleteExclusion as DeleteExclusion
    from .models import DeliveryFaultCleared as DeliveryFaultCleared
    from .models import EmailAction as EmailAction
    from .models import EmailAddress as EmailAddress
    from .models import EmailAddressChange as EmailAddressChange
    from .models import EmailCategoryChange as EmailCategoryChange
    from .models import EmailChange as EmailChange
    from .models import EmailState as EmailState
    from .models import EmailStatus as EmailStatus
    from .models import Exclusion as Exclusion
    from .models import ExclusionAction as ExclusionAction
    from .models import ExclusionChange as ExclusionChange
    from .models import ExclusionEnd as ExclusionEnd
    from .models import ExclusionPage as ExclusionPage
    from .models import ExclusionStatus as ExclusionStatus
    from .models import GetEmailAddress as GetEmailAddress
    from .models import GetEmailSubscription as GetEmailSubscription
    from .models import GetExclusion as GetExclusion
    from .models import GetSubscription as GetSubscription
    from .models import Identify as Identify
    from .models import ListCategories as ListCategories
    from .models import ListExclusions as ListExclusions
    from .models import ListUnsubscriptions as ListUnsubscriptions
    from .models import OptOutCategories as OptOutCategories
    from .models import OptOutCategory as OptOutCategory
    from .models import PlayerRemoval as PlayerRemoval
    from .models import PlayerSession as PlayerSession
    from .models import PurgedChannels as PurgedChannels
    from .models import RemoveEmailAddress as RemoveEmailAddress
    from .models import RemovePlayer as RemovePlayer
    from .models import Request as Request
    from .models import Response as Response
    from .models import SetCategorySubscription as SetCategorySubscription
    from .models import SetEmailAddress as SetEmailAddress
    from .models import SetEmailCategorySubscription as SetEmailCategorySubscription
    from .models import SetEmailSubscription as SetEmailSubscription
    from .models import SetSubscription as SetSubscription
    from .models import State as State
    from .models import SubscriptionChange as SubscriptionChange
    from .models import SubscriptionStatus as SubscriptionStatus
    from .models import Unsubscription as Unsubscription
    from .models import UnsubscriptionPage as UnsubscriptionPage

# The command's help needs none of these, and importing aiohttp takes half a second: each is imported when it is asked for.
_NAMES = {
    "_bulk.outcomes": "BulkReport Outcome Row",
    "_bulk.run": "BulkRun",
    "_client.deadline": "Deadline",
    "_client.retry": "RetryPolicy",
    "_client.transport": "Timeout",
    "_limits.bucket": "Rate",
    "_limits.session_limits": "Limits",
    "_notify": "Hook",
    "_parts.categories": "Categories",
    "_parts.email": "Email",
    "_parts.exclusions": "Exclusions Players",
    "_parts.subscriptions": "Subscriptions",
    "_session": "TeakSession",
    "errors": "BacklogFull CertificateError ConnectFailed ConnectionLost DeadlinePassed Delivery Forbidden GameNotFound"
    " InvalidRequest JournalError LedgerError LedgerUnavailable NotFound Outage PlayerNotFound RateLimited ServerError"
    " SessionClosed TeakError TimedOut TransportError UnexpectedResponse UnknownState",
    "models.base": "Request Response",
    "models.categories": "ListCategories OptOutCategories OptOutCategory",
    "models.email": "ClearDeliveryFault DeliveryFaultCleared EmailAction EmailAddress EmailAddressChange"
    " EmailCategoryChange EmailChange EmailState EmailStatus GetEmailAddress GetEmailSubscription"
    " ListUnsubscriptions RemoveEmailAddress SetEmailAddress SetEmailCategorySubscription"
    " SetEmailSubscription Unsubscription UnsubscriptionPage",
    "models.exclusions": "CreateExclusion DeleteExclusion Exclusion ExclusionAction ExclusionChange ExclusionEnd"
    " ExclusionPage ExclusionStatus GetExclusion ListExclusions PlayerRemoval PurgedChannels"
    " RemovePlayer",
    "models.sessions": "Identify PlayerSession",
    "models.subscriptions": "CategorySubscriptionChange Channel GetSubscription SetCategorySubscription SetSubscription"
    " State SubscriptionChange SubscriptionStatus",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
_MODULES = ("errors", "events", "models")

__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll] # noqa: PLE0604 - all are names


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES, *_MODULES]
