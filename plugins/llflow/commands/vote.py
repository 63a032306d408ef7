"""`llflow vote`: which of two is better, asked blind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llflow.commands.drawing import overwrite_option, prepare
from llflow.commands.options import FROM_ONE, PATH, shown

if TYPE_CHECKING:
    from llflow.votes.count import Count

EPILOG = """\b
examples:
  llflow vote page mine/ theirs/ -o page.html
  llflow vote count votes_*.json
"""
PAGE_EPILOG = """\b
examples:
  llflow vote page mine/ theirs/ -o page.html
  llflow vote page mine/ theirs/ -o page.html --names before,after --seed 7
"""
COUNT_EPILOG = """\b
examples:
  llflow vote count votes.json
  llflow vote count votes_*.json --json
"""


@click.group("vote", epilog=EPILOG, no_args_is_help=False)
def command() -> None:
    """Ask people which of two is better, without telling whose it is, and count.

    `llflow compare` measures pictures against references; here people look at them.
    """


@command.command(epilog=PAGE_EPILOG)
@click.argument("a", type=PATH, metavar="A")
@click.argument("b", type=PATH, metavar="B")
@click.option("-o", "--out", type=PATH, required=True, metavar="HTML", help="The page to write.")
@click.option(
    "--names",
    metavar="A,B",
    show_default="the folders'",
    help="What A and B are called once the votes are counted.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Of the pairs' order and of who is on the left.",
)
@click.option(
    "--longest",
    type=FROM_ONE,
    default=2000,
    show_default=True,
    metavar="PIXELS",
    help="Make pictures with longer sides smaller.",
)
@overwrite_option
def page(
    a: Path, b: Path, out: Path, names: str | None, seed: int, longest: int, overwrite: bool
) -> None:
    """Write a page that shows pairs of pictures side by side and asks which is better.

    A and B are folders; files belong together by equal names (suffixes may differ). The page is one
    file, works without a network, and doesn't know whose picture is on which side. It keeps the
    votes and saves them as a file for `llflow vote count`.
    """
    from llflow.atomic import write_atomically
    from llflow.evaluation.evaluate import check, pair_outputs
    from llflow.picture import files
    from llflow.votes.page import fitted
    from llflow.votes.page import page as made
    from llflow.votes.study import Study

    called = names.split(",") if names is not None else [_name(a), _name(b)]
    if len(called) != 2 or not all(called) or called[0] == called[1]:
        raise click.UsageError(
            f"--names: expected two names with a comma between, got {','.join(called)!r}."
        )
    pairs = pair_outputs(a, b)
    prepare([out], [path for pair in pairs for path in (pair.dark, pair.bright)], overwrite)
    check(pairs)
    study = Study(a=called[0], b=called[1], seed=seed, pairs=tuple(pair.name for pair in pairs))
    pictures = {
        pair.name: [
            fitted(files.to_pil(files.read(path).image), longest)
            for path in (pair.dark, pair.bright)
        ]
        for pair in pairs
    }
    content = made(study, pictures).encode()
    write_atomically(out, lambda file: file.write(content), overwrite=overwrite)
    click.echo(f"{len(pairs)} pairs, {len(content) / 1e6:.1f} MB -> {shown(out)}")


@command.command(epilog=COUNT_EPILOG)
@click.argument("votes", type=PATH, nargs=-1, required=True, metavar="VOTES...")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def count(votes: tuple[Path, ...], as_json: bool) -> None:
    """Count the votes that the page saved, one file a voter.

    The interval, of 95 %, is Wilson's for one voter; for several, pairs are drawn as wholes, since
    votes on one pair aren't independent. "No difference" counts for neither.
    """
    from llflow.votes.count import count as counted
    from llflow.votes.count import read_votes

    found = counted([read_votes(path) for path in votes])
    if as_json:
        names = {"a": found.study.a, "b": found.study.b}
        ends = [None if end != end else end for end in found.interval]
        figures = {"share of a": None if found.share != found.share else found.share}
        figures |= {"interval": ends, "method": found.method, "voters": found.voters}
        click.echo(json.dumps({**names, "votes": _votes(found), **figures}))
        return
    of = f"{found.voters} voter{'s' * (found.voters != 1)}, {len(found.study.pairs)} pairs"
    name_a, name_b = shown(found.study.a), shown(found.study.b)
    click.echo(f"{of}: {name_a} {found.a}, {name_b} {found.b}, no difference {found.same}")
    if found.share == found.share:
        low, high = (f"{100 * end:.0f}" for end in found.interval)
        ends = f" [{low}, {high}] ({found.method}, 95 %)" if low != "nan" else ""
        click.echo(f"{name_a} is preferred in {100 * found.share:.0f} %{ends}")
    else:
        click.echo("no vote is for either")


def _name(folder: Path) -> str:
    return folder.resolve().name or str(folder)


def _votes(found: Count) -> dict[str, int]:
    return {"a": found.a, "b": found.b, "same": found.same}
