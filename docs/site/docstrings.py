"""Docstrings as Markdown: examples become blocks of code."""

import re

import griffe


class Docstrings(griffe.Extension):
    def on_object(self, *, obj, **_):
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text):
    # [a][b] is a link in Markdown, and an index of an index in Python.
    text = text.replace("Raises (on use):", "Raises:").replace("][", "]\\[")
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(
        f"```pycon\n{paragraph}\n```" if paragraph.startswith(">>>") else paragraph
        for paragraph in paragraphs
    )
