"""The asyncio client for Teak's server API, with the rate limits built in."""

from .bucket import Rate
from .budgets import Limits
from .bulk import BulkRun
from .errors import (
    BacklogFull,
    ConnectFailed,
    ConnectionLost,
    DeadlinePassed,
    Delivery,
    Forbidden,
    GameNotFound,
    InvalidRequest,
    JournalError,
    NotFound,
    PlayerNotFound,
    RateLimited,
    ServerError,
    SessionClosed,
    TeakError,
    TimedOut,
    TransportError,
    UnexpectedResponse,
    UnknownState,
)
from .models import (
    CategorySubscriptionChange,
    GetSubscription,
    Identify,
    PlayerSession,
    Request,
    Response,
    SetCategorySubscription,
    SetSubscription,
    State,
    SubscriptionChange,
    SubscriptionStatus,
)
from .outcomes import Outcome, Report, Row
from .retry import Retry
from .session import Subscriptions, TeakSession
from .transport import Timeout
from .version import __version__

__all__ = [
    "BacklogFull",
    "BulkRun",
    "CategorySubscriptionChange",
    "ConnectFailed",
    "ConnectionLost",
    "DeadlinePassed",
    "Delivery",
    "Forbidden",
    "GameNotFound",
    "GetSubscription",
    "Identify",
    "InvalidRequest",
    "JournalError",
    "Limits",
    "NotFound",
    "Outcome",
    "PlayerNotFound",
    "PlayerSession",
    "Rate",
    "RateLimited",
    "Report",
    "Request",
    "Response",
    "Retry",
    "Row",
    "ServerError",
    "SessionClosed",
    "SetCategorySubscription",
    "SetSubscription",
    "State",
    "SubscriptionChange",
    "SubscriptionStatus",
    "Subscriptions",
    "TeakError",
    "TeakSession",
    "TimedOut",
    "Timeout",
    "TransportError",
    "UnexpectedResponse",
    "UnknownState",
    "__version__",
]
