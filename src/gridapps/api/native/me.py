"""`/me`: the authenticated user."""

from django.http import HttpRequest
from ninja import Router

from gridapps.access import queries
from gridapps.access.permissions import is_administrator
from gridapps.api.native.answers import reads
from gridapps.api.native.authentication import ANY, user_of, with_scope
from gridapps.api.native.shapes import Me, MeAnswer

router = Router(tags=["me"], auth=with_scope(ANY))


@router.get("/me", response=reads(ok=MeAnswer), operation_id="show_me")
def show(request: HttpRequest) -> MeAnswer:
    """The authenticated user."""
    user = user_of(request)
    developer = queries.developer_of(user)
    return MeAnswer(
        user=Me(
            username=user.username,
            administrator=is_administrator(user),
            developer=developer.state if developer else "none",
            access_tags=list(user.access_tags.order_by("name").values_list("name", flat=True)),
        )
    )
