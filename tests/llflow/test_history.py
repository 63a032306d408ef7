"""What was done to a picture, in its XMP."""

import json
from shutil import which
from subprocess import run
from xml.etree import ElementTree

import pytest
import torch

from llflow.picture import files
from llflow.picture.history import recorded
from llflow.picture.metadata import Metadata

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
EVENT = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"
MEDIA = "{http://ns.adobe.com/xap/1.0/mm/}"
HEAD = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="' + RDF[1:-1] + '">'
RATED = (
    HEAD + '<rdf:Description rdf:about="uuid:1" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmp:Rating="4"/></rdf:RDF></x:xmpmeta>'
)
EDITED = (
    HEAD + '<rdf:Description rdf:about="" xmlns:xmpMM="' + MEDIA[1:-1] + '" xmlns:stEvt="'
    + EVENT[1:-1] + '"><xmpMM:History><rdf:Seq><rdf:li stEvt:action="created"/></rdf:Seq>'
    "</xmpMM:History></rdf:Description></rdf:RDF></x:xmpmeta>"
)  # fmt: skip


def entries(xmp):
    tree = ElementTree.fromstring(xmp.decode().lstrip("\ufeff"))
    histories = list(tree.iter(f"{MEDIA}History"))
    assert len(histories) == 1
    return list(histories[0].iter(f"{RDF}li"))


@pytest.mark.parametrize(("xmp", "before"), [("", 0), (RATED, 0), (EDITED, 1)])
def test_an_entry_stands_behind_the_others(xmp, before):
    held, problems = recorded(Metadata(xmp=xmp.encode()), "llflow <1>", '{"a": "ë & <b>"}')
    assert problems == ()
    found = entries(held.xmp)
    assert len(found) == before + 1
    assert found[-1].findtext(f"{EVENT}softwareAgent") == "llflow <1>"
    assert json.loads(found[-1].findtext(f"{EVENT}parameters")) == {"a": "ë & <b>"}
    again, _ = recorded(held, "b", "c")
    assert len(entries(again.xmp)) == before + 2
    if xmp == RATED:
        assert held.xmp.startswith(RATED.partition("</rdf:RDF>")[0].encode())
        assert held.xmp.endswith(b"</rdf:RDF></x:xmpmeta>")
        abouts = [d.get(f"{RDF}about") for d in ElementTree.fromstring(held.xmp)[0]]
        assert abouts == ["uuid:1", "uuid:1"]


@pytest.mark.parametrize(
    "xmp",
    [b"<", b"no XMP", HEAD.encode(), RATED.encode("utf-16"), b"<rdf:RDF/>", b"\xff\xfe", b"<a>"],
)
def test_what_is_no_xmp_stays_and_is_said(xmp):
    held, problems = recorded(Metadata(xmp=xmp), "a", "b")
    assert held.xmp == xmp
    assert problems == ("nothing is recorded: the file's XMP isn't as it should be",)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_exiftool_reads_it(tmp_path, suffix):
    if which("exiftool") is None:
        pytest.skip("exiftool isn't installed")
    about, _ = recorded(Metadata(xmp=RATED.encode()), "llflow", "brightness 1")
    files.write(tmp_path / f"b{suffix}", files.Picture(torch.zeros(3, 8, 8), about=about))
    call = ["exiftool", "-j", "-struct", "-History", "-Rating", tmp_path / f"b{suffix}"]
    (said,) = json.loads(run(call, capture_output=True, check=True).stdout)
    assert said["Rating"] == 4
    event = {"Action": "edited", "SoftwareAgent": "llflow", "Parameters": "brightness 1"}
    assert said["History"] == [event]
