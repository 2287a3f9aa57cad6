"""What sharing a release would change for those who run an App by an access tag now."""

from gridapps.registry import contents, images
from gridapps.registry.distribution import Missing, Repository, Unavailable
from gridapps.registry.manifests import Invalid, Manifest, parse
from gridapps.registry.models import App, Release, Share
from gridapps.registry.sharing import SNAPSHOT
from gridapps.registry.tokens import Service


def since(share: Share, *, app: App, release: Release) -> list[str]:
    """Sentences, one for each thing that differs from what is shared; none when nothing does."""
    found = []
    if share.release_id != release.pk:
        found.append(
            f"Image: {share.release.digest[:19]} becomes {release.digest[:19]}. {_layers(share, release)}"
        )
        found.append(f"Size: {share.release.size} becomes {release.size} bytes.")
        for name in ("entrypoint", "command"):
            old, new = getattr(share.release, name), getattr(release, name)
            if old != new:
                found.append(f"{name.capitalize()}: {old} becomes {new}.")
    for name in SNAPSHOT:
        old, new = getattr(share, name), getattr(app, name)
        if name == "arguments" and old != new:
            found.append(f"Argument schema: {_schema(old, new)}.")
        elif old != new:
            found.append(f"{name.capitalize()}: {str(old)[:100]!r} becomes {str(new)[:100]!r}.")
    return found


def _layers(share: Share, release: Release) -> str:
    """How many layers are new, and how many bytes a node that has the old ones would pull."""
    try:
        with (
            Repository(images.trusted_repository(share.app), Service.TRUSTED) as trusted,
            Repository(share.app.app_id) as own,
        ):
            old = {blob.digest for blob in _manifest(trusted, share.release).layers}
            layers = _manifest(own, release).layers
    except (Missing, Unavailable, Invalid, contents.Spoiled):
        return "Its layers cannot be compared now."
    new = [blob for blob in layers if blob.digest not in old]
    return f"{len(new)} of {len(layers)} layers are new: {sum(blob.size for blob in new)} bytes."


def _manifest(repository: Repository, release: Release) -> Manifest:
    content = contents.manifest(repository, release.digest, release.media_type)
    parsed = parse(content, media_type=release.media_type, max_image=contents.ANY, max_layers=contents.ANY)
    if isinstance(parsed, Manifest):
        return parsed
    content = contents.manifest(repository, parsed.image.digest, parsed.image.media_type)
    inner = parse(
        content, media_type=parsed.image.media_type, max_image=contents.ANY, max_layers=contents.ANY
    )
    assert isinstance(inner, Manifest), "an index names manifests only"
    return inner


def _schema(old: dict[str, object], new: dict[str, object]) -> str:
    before, after = (
        each if isinstance(each := schema.get("properties"), dict) else {} for schema in (old, new)
    )
    parts = [
        (word, sorted(names))
        for word, names in (
            ("added", after.keys() - before.keys()),
            ("removed", before.keys() - after.keys()),
            ("changed", {name for name in before.keys() & after.keys() if before[name] != after[name]}),
        )
        if names
    ]
    return (
        "; ".join(f"{word} {', '.join(names)}" for word, names in parts) or "changed outside its properties"
    )
