"""Batches to try: dark pictures in folders, lists and shards, and an engine in this process."""

import io
import tarfile

import numpy as np
from PIL import Image

from llflow.batch import source as sources
from llflow.batch.lead import Lead
from llflow.batch.part import Began, Died, Finished
from llflow.batch.pins import pin, require_same
from llflow.batch.place import Place
from llflow.batch.recipe import Recipe
from llflow.batch.worker import Worker
from llflow.network import checkpoint
from llflow.settings import Settings


def dark(seed):
    levels = np.random.default_rng(seed).integers(0, 60, (16, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def write_folder(folder, count):
    """Pictures in two folders, by turns."""
    for number in range(count):
        path = folder / ("b" if number % 2 else "a") / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dark(number))
    return folder


def tar_of(files):
    """The bytes of a tar with these files, by name."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def shard_of(numbers):
    """Each picture with a caption."""
    files = {}
    for number in numbers:
        files[f"{number:04}.png"] = dark(number)
        files[f"{number:04}.txt"] = f"picture {number}".encode()
    return tar_of(files)


def members_of(content):
    """What is in a tar of these bytes, by name."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in found.items()}


def recipe_of(weights, **changes):
    return Recipe(
        **{
            "settings": Settings(precision="float32"),
            "weights": str(weights),
            "sha256": checkpoint.digest(weights),
            "device": "cpu",
            "threads": 1,
            "max_pixels": 10**8,
            "max_memory": 2 * 10**9,
        }
        | changes
    )


class Here:
    """One worker, in this process, which dies at a picture as often as `deaths` says by key, or
    right after it, if that is "after"."""

    size = 1

    def __init__(self, worker, deaths=()):
        self.worker, self.deaths, self.begun = worker, dict(deaths), []
        self._at = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    @property
    def free(self):
        return self._at is None

    def give(self, number, part):
        self._at = number, self.worker.work(part)

    def events(self):
        number, work = self._at
        event = next(work, None)
        if event is None:
            self._at = None
            return [(number, Finished())]
        if isinstance(event, Began):
            self.begun.append(event.key)
            if self.deaths.get(event.key) == "after":
                del self.deaths[event.key]
                self._at = None
                return [(number, event), (number, next(work)), (number, Died("killed"))]
            if self.deaths.get(event.key):
                self.deaths[event.key] -= 1
                self._at = None
                return [(number, event), (number, Died("killed"))]
        return [(number, event)]


def batch(source, out, recipe, *, stop=None, as_shards=None, per_shard=None, retry=False, dies=()):
    """One start of a batch, which ends as if it were killed when `stop` pictures have ended; its
    lines, and the keys that were begun with."""
    shards = str(source).endswith(".tar") if as_shards is None else as_shards
    found = sources.source_of(str(source), recipe.settings.format, to_shards=shards)
    place = Place(str(out))
    if not require_same(place, recipe.pins()):
        pin(place, recipe.pins())
    lead = Lead(sources.parts(found, per_shard), place, retry_failed=retry)
    engine, lines = Here(Worker(recipe, str(out)), dies), []
    for line in lead.run(engine):
        lines.append(line)
        if len(lines) == stop:
            break
    return lines, engine.begun


def results(folder):
    """What a batch has made, by name, but for its record."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != ".batch"
    }
