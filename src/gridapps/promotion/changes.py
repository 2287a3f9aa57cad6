"""What sharing a release would change for users who run the App through an access tag now."""

from collections.abc import Iterator

from gridapps.oci import pushed
from gridapps.oci.documents import Invalid, read_document
from gridapps.oci.manifests import MAX_CONFIG, ImageManifest, digest_of
from gridapps.pki.tokens import Registry
from gridapps.promotion import contents
from gridapps.pushes import index_contents, references
from gridapps.pushes.registry_client import NotInRegistry, Repository, Unavailable
from gridapps.registry.models import App, Release, Share
from gridapps.registry.sharing import SNAPSHOT


def since(share: Share, *, app: App, release: Release) -> list[str]:
    """One sentence for each difference from what is shared now."""
    found = []
    if share.release_id != release.pk:
        found.append(f"Image: {share.release.digest[:19]} becomes {release.digest[:19]}.")
        found += _images(share, release)
        found.append(f"Size: {share.release.size} becomes {release.size} bytes.")
    for name in SNAPSHOT:
        old, new = getattr(share, name), getattr(app, name)
        if name == "arguments" and old != new:
            found.append(f"Argument schema: {_schema(old, new)}.")
        elif old != new:
            found.append(f"{name.capitalize()}: {str(old)[:100]!r} becomes {str(new)[:100]!r}.")
    return found


def _images(share: Share, release: Release) -> Iterator[str]:
    """How many layers are new, how many bytes a node with the old ones would pull, and how the program's
    configuration differs."""
    try:
        with (
            references.repository_of(share.app, Registry.TRUSTED) as trusted,
            references.repository_of(share.app, Registry.DEVELOPER) as own,
        ):
            old, new = _manifest(trusted, share.release), _manifest(own, release)
            before, after = _configuration(trusted, old), _configuration(own, new)
    except (NotInRegistry, Unavailable, Invalid, contents.Spoiled):
        yield "The images cannot be compared now."
        return
    known = {blob.digest for blob in old.layers}
    pulled = [blob.size for blob in new.layers if blob.digest not in known]
    yield f"Layers: {len(pulled)} of {len(new.layers)} are new: {sum(pulled)} bytes."
    for name in before | after:
        if before.get(name) != after.get(name):
            yield f"{name}: {_shown(before.get(name))} becomes {_shown(after.get(name))}."


def _configuration(repository: Repository, manifest: ImageManifest) -> dict[str, object]:
    """The parts of an image's configuration that reach its program. Each environment variable is one part.

    Raises NotInRegistry, Unavailable, Ambiguous, Spoiled.
    """
    content = repository.blob(manifest.config.digest, limit=MAX_CONFIG + 1)
    if digest_of(content) != manifest.config.digest:
        raise contents.Spoiled(
            f"The configuration {manifest.config.digest} differs from the one that was pushed."
        )
    run = read_document(content, what="The configuration").document("config")
    found = {name: run.get(name) for name in ("Entrypoint", "Cmd", "WorkingDir")}
    variables = (str(word).partition("=") for word in run.entries("Env"))
    return found | {f"Environment {name}": value for name, _, value in variables}


def _shown(value: object) -> str:
    return "nothing" if value in (None, "", []) else repr(value)[:100]


def _manifest(repository: Repository, release: Release) -> ImageManifest:
    content = contents.manifest(repository, release.digest, release.media_type)
    image = pushed.decode_image(content, media_type=release.media_type)
    if isinstance(image, ImageManifest):
        return image
    return index_contents.find(image, repository).manifest


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
