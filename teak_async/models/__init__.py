"""Requests and responses: frozen values, checked when they are made.

A request's type names the type of its response, so `TeakSession.call` has one signature for all of them.

Rules of this package:

- A request that exists can be sent: one `InvalidRequest` names every problem of one that does not.
- A request is invalid only where Teak documents it as impossible. The server judges what merely looks odd.
- A field of a response is `None` only where the API documents it as optional.
- An email address is in no `repr`.
- A signature's `PlainText` is text, or what has one: an `Enum`, a `UUID`, an address of `ipaddress`, a time zone; `PlainId`
  is a whole number, too.
"""

from .base import AddressRequest as AddressRequest
from .base import Change as Change
from .base import PageRequest as PageRequest
from .base import PlayerRequest as PlayerRequest
from .base import Request as Request
from .base import Response as Response
from .categories import ListCategories as ListCategories
from .categories import OptOutCategories as OptOutCategories
from .categories import OptOutCategory as OptOutCategory
from .email import ClearDeliveryFault as ClearDeliveryFault
from .email import DeliveryFaultCleared as DeliveryFaultCleared
from .email import EmailAction as EmailAction
from .email import EmailAddress as EmailAddress
from .email import EmailAddressChange as EmailAddressChange
from .email import EmailCategoryChange as EmailCategoryChange
from .email import EmailChange as EmailChange
from .email import EmailState as EmailState
from .email import EmailStatus as EmailStatus
from .email import GetEmailAddress as GetEmailAddress
from .email import GetEmailSubscription as GetEmailSubscription
from .email import ListUnsubscriptions as ListUnsubscriptions
from .email import RemoveEmailAddress as RemoveEmailAddress
from .email import SetEmailAddress as SetEmailAddress
from .email import SetEmailCategorySubscription as SetEmailCategorySubscription
from .email import SetEmailSubscription as SetEmailSubscription
from .email import Unsubscription as Unsubscription
from .email import UnsubscriptionPage as UnsubscriptionPage
from .exclusions import CreateExclusion as CreateExclusion
from .exclusions import DeleteExclusion as DeleteExclusion
from .exclusions import Exclusion as Exclusion
from .exclusions import ExclusionAction as ExclusionAction
from .exclusions import ExclusionChange as ExclusionChange
from .exclusions import ExclusionEnd as ExclusionEnd
from .exclusions import ExclusionPage as ExclusionPage
from .exclusions import ExclusionStatus as ExclusionStatus
from .exclusions import GetExclusion as GetExclusion
from .exclusions import ListExclusions as ListExclusions
from .exclusions import PlayerRemoval as PlayerRemoval
from .exclusions import PurgedChannels as PurgedChannels
from .exclusions import RemovePlayer as RemovePlayer
from .sessions import Identify as Identify
from .sessions import PlayerSession as PlayerSession
from .subscriptions import CategorySubscriptionChange as CategorySubscriptionChange
from .subscriptions import Channel as Channel
from .subscriptions import GetSubscription as GetSubscription
from .subscriptions import SetCategorySubscription as SetCategorySubscription
from .subscriptions import SetSubscription as SetSubscription
from .subscriptions import State as State
from .subscriptions import SubscriptionChange as SubscriptionChange
from .subscriptions import SubscriptionRequest as SubscriptionRequest
from .subscriptions import SubscriptionStatus as SubscriptionStatus
