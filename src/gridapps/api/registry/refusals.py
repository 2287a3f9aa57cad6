"""Refusals in the form of the OCI distribution specification, as docker, podman and skopeo print them."""


def refusal(message: str, *, code: str = "DENIED") -> dict[str, object]:
    """The body of a refusal. docker prints the `details` of a 401; other clients print the `message`."""
    return {"errors": [{"code": code, "message": message}], "details": message}
