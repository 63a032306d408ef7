"""What was done to a picture, written into its XMP on request.

An entry of xmpMM:History (XMP Specification Part 1 and 2, 1.2.4 "XMP media management",
ResourceEvent). It has no time, so that the same settings give the same bytes. Nothing else of a
packet changes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from llflow.picture.metadata import Metadata

_MEDIA = "http://ns.adobe.com/xap/1.0/mm/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)
_BEHIND_THE_LAST = re.compile(r"</\w+:Seq\s*>\s*</\w+:History\s*>")
_END = re.compile(r"</\w+:RDF\s*>")


def recorded(held: Metadata, agent: str, parameters: str) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata with an entry behind those that its history has, and what went wrong.

    Args:
        held: with any XMP or none; a packet that isn't XMP in UTF-8 stays as it is.
        agent: who did something.
        parameters: what it was.
    """
    entry = (
        f'<rdf:li xmlns:rdf="{_RDF}" xmlns:stEvt="{_EVENT}" rdf:parseType="Resource">'
        "<stEvt:action>edited</stEvt:action>"
        f"<stEvt:softwareAgent>{_text(agent)}</stEvt:softwareAgent>"
        f"<stEvt:parameters>{_text(parameters)}</stEvt:parameters></rdf:li>"
    )
    try:
        packet = (held.xmp or _EMPTY.encode()).decode().rstrip("\0")
        whole = _with(packet, entry)
        ElementTree.fromstring(whole.lstrip("\ufeff").strip())
    except (UnicodeDecodeError, ValueError, ElementTree.ParseError):
        return held, ("nothing is recorded: the file's XMP isn't as it should be",)
    return replace(held, xmp=whole.encode()), ()


def _text(value: str) -> str:
    return quoteattr(value, {'"': "&quot;"})[1:-1]


def _with(packet: str, entry: str) -> str:
    if history := _BEHIND_THE_LAST.search(packet):
        return packet[: history.start()] + entry + packet[history.start() :]
    end = _END.search(packet)
    if end is None:
        raise ValueError("no RDF to write into")
    described = (
        f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about="{_about(packet)}" '
        f'xmlns:xmpMM="{_MEDIA}"><xmpMM:History><rdf:Seq>{entry}</rdf:Seq></xmpMM:History>'
        "</rdf:Description>"
    )
    return packet[: end.start()] + described + packet[end.start() :]


def _about(packet: str) -> str:
    """What the packet is about, as each of its descriptions has to say."""
    found = re.search(r"\w+:about\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", packet)
    return (found[1] or found[2] or "") if found else ""
