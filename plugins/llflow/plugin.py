"""What llflow offers flowkit: `flowkit llflow ...` and layers to be checked."""

from __future__ import annotations

summary = "make dark photographs bright (LLFlow, Wang et al., AAAI 2022)"
packages = ("llflow",)


def main(argv: list[str]) -> int:
    from llflow import cli

    return cli.main(argv)
