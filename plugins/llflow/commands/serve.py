"""`llflow serve`: the page and the service."""

from __future__ import annotations

import click

from llflow.commands.options import (
    FROM_ONE,
    device_of,
    device_option,
    max_pixels_option,
    precision_option,
    weights_option,
)
from llflow.memory import prefer_huge_pages

EXTRA = "flowkit[serve]"
EPILOG = """\b
examples:
  llflow serve
  llflow serve --port 9000 --weights small.safetensors --device cuda
  curl --fail -F file=@dark.jpg http://127.0.0.1:8000/v1/enhance -o bright.jpg
  curl --fail --data-binary @dark.jpg -H 'Content-Type: image/jpeg' \\
    'http://127.0.0.1:8000/v1/enhance?brightness=0.5&format=PNG' -o bright.png
"""


@click.command("serve", epilog=EPILOG)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Listen here; others reach 0.0.0.0, and nobody is asked for a password.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    metavar="N",
    help="Listen here; 0 takes any.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name that others know this service by, besides addresses and localhost.",
)
@weights_option
@device_option
@precision_option("auto", "")
@click.option(
    "--max-bytes",
    type=FROM_ONE,
    show_default="200 million",
    metavar="N",
    help="Refuse larger files.",
)
@max_pixels_option("50 million")
@click.option(
    "--max-seconds",
    type=FROM_ONE,
    show_default="600",
    metavar="N",
    help="Give up a picture after this time.",
)
@click.option(
    "--max-waiting",
    type=FROM_ONE,
    show_default="64",
    metavar="N",
    help="Answer 503 to more pictures at once.",
)
@click.option(
    "--keep",
    type=FROM_ONE,
    show_default="32",
    metavar="N",
    help="Forget the oldest of more finished jobs.",
)
def command(
    host: str,
    port: int,
    hosts: tuple[str, ...],
    weights: str | None,
    device: str,
    precision: str,
    max_bytes: int | None,
    max_pixels: int | None,
    max_seconds: int | None,
    max_waiting: int | None,
    keep: int | None,
) -> None:
    """Brighten pictures over HTTP and on a page.

    Open the address that is printed in a browser, or send pictures to /v1/enhance; docs/serve.md
    tells of the rest. One picture is computed at a time. Everything stays on this machine, in a
    temporary folder, for half an hour. Ctrl-C ends it.
    """
    prefer_huge_pages()
    try:
        from llflow.serve.server import listen, run
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"llflow serve needs pip install '{EXTRA}' ({error})") from error

    from llflow.network import checkpoint
    from llflow.serve.app import make_app
    from llflow.serve.limits import Limits

    given = {
        "bytes": max_bytes,
        "pixels": max_pixels,
        "seconds": max_seconds,
        "waiting": max_waiting,
        "kept": keep,
    }
    device_of(device)  # refuses one that isn't there
    app = make_app(
        weights or checkpoint.DEFAULT,
        device=device,
        precision=precision,
        limits=Limits(**{name: value for name, value in given.items() if value is not None}),
        hosts=hosts,
    )
    with listen(host, port) as socket:
        run(app, socket, lambda address: click.echo(f"llflow: {address} (Ctrl-C ends it)"))
