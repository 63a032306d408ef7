"""What has to stay the same from a batch's first start to its end, so that nothing is mixed."""

from __future__ import annotations

import json
from typing import Any

from llflow.batch.naming import STATE
from llflow.batch.place import Place
from llflow.errors import UsageError

FILE = f"{STATE}/run.json"


class Different(UsageError):
    """A batch goes on with something else than it began with, or among files of others."""


def begun(out: Place) -> dict[str, Any] | None:
    """With what the batch in a folder began; None if none has."""
    if not out.exists(FILE):
        return None
    try:
        return dict(json.loads(out.read(FILE)))
    except (ValueError, TypeError) as error:
        raise Different(f"{out.address}/{FILE}: damaged ({error})") from error


def require_same(out: Place, wanted: dict[str, Any]) -> bool:
    """Whether a batch like this has begun in a folder; if not, the folder has to be empty.

    Raises:
        Different: one with something else has, or the folder has files of others.
    """
    before = begun(out)
    if before is None:
        files, folders = out.entries() if out.exists() else ([], [])
        found = [name for name in (*files, *folders) if name != STATE]
        if found:
            raise Different(
                f"{out.address}: has files ({found[0]}) and no batch has begun here; expected an "
                "empty folder, or a new one"
            )
        return False
    for name in {**before, **wanted}:
        if before.get(name) != wanted.get(name):
            raise Different(
                f"{out.address}: this batch began with {name} {_said(before.get(name))}, and now "
                f"it is {_said(wanted.get(name))}; results of both would be mixed: go on with "
                "the same, or take another OUT"
            )
    return True


def pin(out: Place, values: dict[str, Any]) -> None:
    out.write(FILE, json.dumps(values, indent=1).encode() + b"\n")


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)
