"""What Teak's documentation shows of each call: a request, and the body of its success."""

from __future__ import annotations

from teak_async.models import (
    ClearDeliveryFault,
    CreateExclusion,
    DeleteExclusion,
    GetEmailAddress,
    GetEmailSubscription,
    GetExclusion,
    GetSubscription,
    Identify,
    ListCategories,
    ListExclusions,
    ListUnsubscriptions,
    RemoveEmailAddress,
    RemovePlayer,
    Request,
    SetCategorySubscription,
    SetEmailAddress,
    SetEmailCategorySubscription,
    SetEmailSubscription,
    SetSubscription,
)

EVE = "eve@example.com"
RECORDED: dict[type[Request], tuple[Request, str]] = {
    type(request): (request, sample)
    for request, sample in (
        (Identify("example_user", country_code="US"), "identify.201"),
        (GetSubscription("example_user"), "status.get.200"),
        (SetSubscription("example_user", "opt_in"), "status.set.200"),
        (SetCategorySubscription("example_user", "sales", "opt_in"), "status.category.200"),
        (GetEmailSubscription(EVE), "email.status.get.200"),
        (SetEmailSubscription(EVE, "opt_in"), "email.status.set.200"),
        (SetEmailCategorySubscription(EVE, "sales", "opt_in"), "email.category.200"),
        (ClearDeliveryFault(EVE), "email.fault.200"),
        (GetEmailAddress("example_user"), "email.address.get.200"),
        (SetEmailAddress("example_user", EVE), "email.address.set.200"),
        (RemoveEmailAddress("example_user"), "email.address.remove.200"),
        (ListUnsubscriptions("2026-11-01T00:00:00Z"), "email.unsubscriptions.200"),
        (GetExclusion("example_user"), "exclusions.get.200"),
        (ListExclusions(), "exclusions.list.200"),
        (CreateExclusion("example_user", expire_at="2027-01-01T00:00:00Z"), "exclusions.create.200"),
        (DeleteExclusion("example_user"), "exclusions.end.200"),
        (RemovePlayer("example_user"), "users.200"),
        (ListCategories(), "categories.200"),
    )
}
"""Each kind of request: one of them, and the name of the recorded body of its success."""
