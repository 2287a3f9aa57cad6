"""URLs of the pages, and of OAuth, which are those of GRiD v3."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.views import RevokeTokenView

from gridapps.web import (
    app_pages,
    applications,
    certificates,
    connect,
    device,
    exports,
    home,
    hooks,
    oauth,
    runs,
    tokens,
)

urlpatterns = [
    path("", home.home, name="home"),
    path("login", LoginView.as_view(template_name="login.html"), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("settings", home.settings, name="settings"),
    path("settings/developer", home.request_developer, name="request-developer"),
    path("settings/certificates", certificates.issue, name="issue-certificate"),
    path("settings/certificates/<slug:serial>/revoke", certificates.revoke, name="revoke-certificate"),
    path("settings/password", connect.change_password, name="change-password"),
    path("settings/tokens", connect.create_token, name="create-token"),
    path("settings/tokens/<int:pk>/revoke", connect.revoke_token, name="revoke-token-of-user"),
    path("connect", connect.show, name="connect"),
    path("connect/ca.crt", connect.authority, name="authority"),
    path("connect/<str:name>", connect.client, name="client"),
    path("settings/applications", applications.register, name="register-application"),
    path("settings/applications/<int:pk>/delete", applications.delete, name="delete-application"),
    path("settings/hooks", hooks.index, name="hooks"),
    path("settings/hooks/create", hooks.create, name="create-hook"),
    path("settings/hooks/<int:pk>", hooks.show, name="hook"),
    path("settings/hooks/<int:pk>/secret", hooks.renew_secret, name="renew-hook-secret"),
    path("settings/hooks/<int:pk>/test", hooks.test, name="test-hook"),
    path("settings/hooks/<int:pk>/delete", hooks.delete, name="delete-hook"),
    path("exports", exports.index, name="exports"),
    path("exports/<int:pk>", exports.show, name="export"),
    path("exports/<int:pk>/rename", exports.rename, name="rename-export"),
    path("exports/<int:pk>/delete", exports.delete, name="delete-export"),
    path("uploads/<uuid:upload_id>/delete", exports.delete_upload, name="delete-upload"),
    path("apps/<slug:app_id>", app_pages.show, name="app"),
    path("apps/<slug:app_id>/run", app_pages.run, name="run-app"),
    path("apps/<slug:app_id>/share", app_pages.share, name="share-app"),
    path("runs/<uuid:run_id>", runs.show, name="run"),
    path("runs/<uuid:run_id>/cancel", runs.cancel, name="cancel-run"),
    path("runs/<uuid:run_id>/show", runs.show_to_developer, name="show-run"),
    path("runs/<uuid:run_id>/hide", runs.hide_from_developer, name="hide-run"),
    path("runs/<uuid:run_id>/outputs/delete", runs.delete_outputs, name="delete-outputs"),
    path("api/authorize", oauth.Consent.as_view(), name="authorize"),
    path("api/token", csrf_exempt(tokens.Token.as_view()), name="token"),
    path("api/device", csrf_exempt(tokens.begin_device_login), name="begin-device-login"),
    path("device", device.enter, name="device"),
    path("device/decide", device.decide, name="decide-device"),
    path("api/revoke_token", csrf_exempt(RevokeTokenView.as_view()), name="revoke-token"),
]
