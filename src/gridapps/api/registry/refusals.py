"""Refusals in the form of the OCI distribution specification, as docker, podman and skopeo print them."""


def refusal(message: str, *, code: str = "DENIED") -> dict[str, object]:
    """The body of a refusal. docker prints `details` of a 401, everybody else the `message`."""
    return {"errors": [{"code": code, "message": message}], "details": message}
