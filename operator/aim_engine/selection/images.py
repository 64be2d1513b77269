"""Images that tenants may run: only from repositories that an administrator lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aim_engine.engines import Problem


def image_problems(image: str | None, allowed: Sequence[str] | None, field: str) -> Iterator[Problem]:
    """What is wrong with a tenant's image. An entry with a trailing slash allows all below it; None allows everything."""
    if image and allowed is not None and not _is_allowed(image, allowed):
        remedy = f"use one of {', '.join(allowed)}, or leave it out"
        yield Problem(field, image, "is not from an allowed repository", remedy)


def _is_allowed(image: str, allowed: Sequence[str]) -> bool:
    head, _, last = image.split("@", 1)[0].rpartition("/")
    repository = "/".join(part for part in (head, last.split(":", 1)[0]) if part)
    return any(
        repository == entry or (entry.endswith("/") and repository.startswith(entry)) for entry in allowed
    )
