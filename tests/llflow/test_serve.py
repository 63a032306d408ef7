"""The service: what it answers, whom it refuses, and what it keeps."""

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from live import client, live
from PIL import Image

from llflow.picture import files
from llflow.serve.asked import Asked
from llflow.serve.guard import Guard
from llflow.serve.limits import BodyLimit
from llflow.settings import Settings

LIMITS = {"bytes": 200_000, "pixels": 40_000, "waiting": 4, "kept": 3, "samples": 8}
SETTINGS = [
    {},
    {"brightness": "0.5", "strength": "0.7", "format": "PNG"},
    {"samples": "2", "seed": "3", "exposure": "0.4", "format": "TIFF", "depth": "16"},
    {"temperature": "0.5", "format": "JPEG", "quality": "80"},
]


def picture(size=(21, 14), file_format="PNG", seed=0, **options):
    levels = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, file_format, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def service(weights):
    with live(weights, **LIMITS) as (address, app):
        root = Path(app.state.service.jobs._root.name)
        assert root.stat().st_mode & 0o077 == 0  # nobody else's to read
        yield address, app.state.service
    assert not root.exists()


@pytest.fixture
def http(service):
    with client(service[0]) as http:
        yield http


@pytest.fixture
def folder(service):
    """What the service has on the disk."""
    return Path(service[1].jobs._root.name)


def done(http, job):
    """Its last state, as the events tell it."""
    told = http.get(f"/v1/jobs/{job['id']}/events").text
    states = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line]
    return states[-1]


def submit(http, content=None, **settings):
    answer = http.post("/v1/jobs", params=settings, content=content or picture())
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()


def is_problem(answer, status, words):
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"]) == (status, status), answer.text
    assert words in answer.json()["detail"]
    assert "Traceback" not in answer.text
    return True


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_same_bytes_from_the_command_and_every_way_in(
    http, llflow, weights, tmp_path, settings
):
    source = tmp_path / "dark.png"
    source.write_bytes(picture())
    target = tmp_path / f"bright{files.SUFFIXES[settings.get('format', 'PNG')][0]}"
    options = [text for name, value in settings.items() for text in (f"--{name}", value)]
    options += ["--device", "cpu", "--precision", "float32", "--weights", weights]
    code, _, err = llflow("enhance", source, "-o", target, *options)
    assert (code, err) == (0, "")
    expected = target.read_bytes()
    raw = http.post("/v1/enhance", params=settings, content=source.read_bytes())
    assert raw.content == expected
    form = http.post("/v1/enhance", data=settings, files={"file": source.read_bytes()})
    assert form.content == expected
    job = submit(http, source.read_bytes(), **settings)
    assert done(http, job)["status"] == "done"
    assert http.get(f"/v1/jobs/{job['id']}/result").content == expected
    assert http.delete(f"/v1/jobs/{job['id']}").status_code == 204


def test_light_and_output_change_without_the_network(http, service):
    job = submit(http, strength="0.5")
    done(http, job)
    network = service[1].network
    before, network.call = network.call, None  # whoever would ask it now fails
    try:
        for light in ({}, {"strength": "1"}, {"brightness": "-1", "format": "AVIF"}):
            answer = http.get(f"/v1/jobs/{job['id']}/result", params=light)
            assert answer.status_code == 200
    finally:
        network.call = before
    settings = {"strength": "1", "brightness": "-1", "format": "PNG"}
    changed = http.get(f"/v1/jobs/{job['id']}/result", params=settings)
    assert changed.content == http.post("/v1/enhance", params=settings, content=picture()).content


def test_strength_0_is_the_picture_itself(http):
    job = submit(http)
    done(http, job)
    settings = {"strength": "0"}
    dark = http.get(f"/v1/jobs/{job['id']}/result", params=settings).content
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(dark))), pixels(picture()))
    shown = http.get(f"/v1/jobs/{job['id']}/preview", params=settings).content
    assert Image.open(io.BytesIO(shown)).size == (21, 14)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_job_tells_what_its_file_says(http):
    exif = Image.Exif()
    exif[315], exif[271] = "Zoë", "Camera"
    exif.get_ifd(0x8769)[34855] = 3200
    job = done(http, submit(http, picture(file_format="JPEG", exif=exif)))
    told = job["picture"]
    assert (told["width"], told["height"], told["format"], told["depth"]) == (21, 14, "JPEG", "8")
    assert told["exif"]["Make"] == "Camera"
    assert told["exif"]["ISOSpeedRatings"] == "3200"
    kept = http.get(f"/v1/jobs/{job['id']}/result").content
    assert Image.open(io.BytesIO(kept)).getexif()[271] == "Camera"


def test_progress_is_told_as_events(http):
    job = submit(http, picture((190, 200)), samples=2)
    told = http.get(f"/v1/jobs/{job['id']}/events").text
    states = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line]
    shares = [state["share"] for state in states]
    assert shares == sorted(shares)
    assert (shares[-1], states[-1]["status"]) == (1, "done")
    http.delete(f"/v1/jobs/{job['id']}")


def test_where_it_guesses_and_how_well_it_fits(http):
    job = submit(http)
    done(http, job)
    shown = http.get(f"/v1/jobs/{job['id']}/uncertainty")
    assert Image.open(io.BytesIO(shown.content)).size == (21, 14)
    score = http.get(f"/v1/jobs/{job['id']}/score").json()
    assert set(score) == {"bits", "mismatch", "distance", "stops", "exposure_stops"}
    assert isinstance(score["bits"], float)
    http.delete(f"/v1/jobs/{job['id']}")


def test_another_version_of_a_job_needs_no_second_upload(http):
    first = submit(http)
    done(http, first)
    again = http.post("/v1/jobs", params={"of": first["id"], "temperature": "0.5", "seed": "1"})
    assert done(http, again.json())["status"] == "done"
    settings = {"temperature": "0.5", "seed": "1"}
    expected = http.post("/v1/enhance", params=settings, content=picture()).content
    assert http.get(f"/v1/jobs/{again.json()['id']}/result").content == expected
    assert is_problem(http.post("/v1/jobs", params={"of": "../etc/passwd"}), 404, "no such job")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"brightness": "99"}, "brightness"),
        ({"brightness": "nan"}, "brightness"),
        ({"exposure": "1"}, "exposure"),
        ({"strength": "-0.1"}, "strength"),
        ({"samples": "9"}, "the limit of this service is 8"),
        ({"samples": "2", "temperature": "0"}, "all samples are the same"),
        ({"format": "GIF"}, "format"),
        ({"format": "PNG", "quality": "80"}, "PNG has no quality"),
        ({"strenght": "1"}, "strenght: there is no such setting"),
        ({"precision": "bf16"}, "precision: there is no such setting"),
    ],
)
def test_settings_are_strict(http, params, words):
    assert is_problem(http.post("/v1/enhance", params=params, content=picture()), 422, words)
    form = {"data": params, "files": {"file": picture()}}
    assert is_problem(http.post("/v1/enhance", **form), 422, words)


def test_a_setting_is_given_once(http):
    answer = http.post("/v1/enhance?seed=1&seed=2", content=picture())
    assert is_problem(answer, 422, "seed: given twice")


def test_settings_are_those_of_enhance():
    """Names, defaults and ranges."""
    ours, theirs = Asked.model_fields, Settings.model_fields
    assert set(ours) == set(theirs) - {"precision"}
    for name, field in ours.items():
        assert field.default == theirs[name].default, name
        limits = [str(limit) for limit in theirs[name].metadata if "Ge" in repr(limit)]
        assert [str(limit) for limit in field.metadata if "Ge" in repr(limit)] == limits, name


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, "empty"),
        (b"no picture", 415, "not a picture"),
        (picture()[:200], 422, "truncated or damaged"),
        (picture((300, 200)), 422, "too large"),
    ],
    ids=["empty", "text", "truncated", "pixels"],
)
def test_what_is_no_picture(http, folder, content, status, words):
    before = set(folder.iterdir())
    assert is_problem(http.post("/v1/enhance", content=content), status, words)
    assert set(folder.iterdir()) == before
    job = http.post("/v1/jobs", content=content).json()
    assert done(http, job)["problem"]["status"] == status
    assert is_problem(http.get(f"/v1/jobs/{job['id']}/result"), status, words)
    http.delete(f"/v1/jobs/{job['id']}")


def test_forms_that_are_wrong(http):
    def answer(**form):
        return http.post("/v1/enhance", **form)

    assert is_problem(answer(files={"picture": picture()}), 422, "as 'file'")
    assert is_problem(answer(files={"seed": (None, "1")}), 422, "got none")
    twice = [("file", picture()), ("file", picture())]
    assert is_problem(answer(files=twice), 400, "Too many files")
    given = {"params": {"seed": "1"}, "data": {"seed": "1"}, "files": {"file": picture()}}
    assert is_problem(answer(**given), 422, "seed: given twice")
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert is_problem(answer(content=b"--y\r\n", headers=form), 400, "")
    assert is_problem(answer(json={"file": "/etc/passwd"}), 415, "application/json")
    assert is_problem(answer(data={"file": "/etc/passwd"}), 415, "urlencoded")
    assert is_problem(answer(files={"file": (None, "/etc/passwd")}), 422, "got none")


def test_a_body_that_is_too_large(http, service):
    too_large = b"x" * (LIMITS["bytes"] + 100_000)
    assert is_problem(http.post("/v1/enhance", content=too_large), 413, "the body is too large")

    def untold():
        for _ in range(100):
            yield b"x" * 10_000

    with contextlib.suppress(OSError):  # it may hang up before everything is sent
        assert is_problem(http.post("/v1/enhance", content=untold()), 413, "too large")
    assert http.get("/healthz").json() == {"status": "ok", "waiting": 0}


def test_strangers(http, service):
    def ask(method="POST", url="/v1/enhance", **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return http.request(method, url, headers=names, content=picture())

    port = service[0].rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "a b"):
        assert is_problem(ask("GET", "/", Host=host), 421, "--allow-host")
    for host in (f"localhost:{port}", f"[::1]:{port}", "192.168.0.7"):
        assert ask("GET", "/", Host=host).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"):
        assert is_problem(ask(Origin=origin), 403, "other sites")
    assert is_problem(ask(Sec_Fetch_Site="cross-site"), 403, "other sites")
    assert ask(Origin=service[0], Sec_Fetch_Site="same-origin").status_code == 200
    assert "access-control-allow-origin" not in ask(Origin=service[0]).headers
    assert Guard(None, ["Pictures.example"]).hosts == {"localhost", "pictures.example"}


def test_every_answer_has_the_headers_that_bind_a_browser(http):
    for path in ("/", "/app.js", "/slider/slider.css", "/v1/jobs/none", "/nothing", "/healthz"):
        headers = http.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_loads_nothing_from_elsewhere_and_has_nothing_inline(http):
    for path in ("/", "/app.js", "/service.js", "/style.css", "/slider/slider.js"):
        text = http.get(path).text
        assert len(text) > 200
        assert "http" not in text.replace("http://www.w3.org", ""), path
    page = http.get("/").text
    assert "style=" not in page
    assert "onclick" not in page
    assert "<script>" not in page


@pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/slider/../x"])
def test_no_path_leads_out_of_the_page(service, path):
    """Sent as it is: a client would tidy it."""
    host, port = service[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(ask.encode())
        assert b" 404 " in connection.makefile("rb").readline()


def test_more_than_may_wait_are_told_when_to_come_again(http, service):
    jobs = service[1].jobs
    places = [jobs.open(Asked()) for _ in range(LIMITS["waiting"])]
    answer = http.post("/v1/enhance", content=picture())
    assert is_problem(answer, 503, "waiting already")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    for job in places:
        assert http.delete(f"/v1/jobs/{job.id}").status_code == 204
    assert http.post("/v1/enhance", content=picture()).status_code == 200


def test_a_job_that_is_cancelled_or_unknown(http, folder):
    first, second = submit(http, picture((190, 200))), submit(http)
    assert http.delete(f"/v1/jobs/{first['id']}").status_code == 204
    assert not (folder / first["id"]).exists()
    assert is_problem(http.get(f"/v1/jobs/{first['id']}"), 404, "no such job")
    assert is_problem(http.delete(f"/v1/jobs/{first['id']}"), 404, "no such job")
    assert done(http, second)["status"] == "done"  # by a new process, if need be


def test_a_job_isn_t_done_before_it_is(http, service):
    job = service[1].jobs.open(Asked())
    assert is_problem(http.get(f"/v1/jobs/{job.id}/result"), 409, "it is queued")
    assert is_problem(http.get(f"/v1/jobs/{job.id}/preview"), 409, "it is queued")
    http.delete(f"/v1/jobs/{job.id}")


def test_a_process_that_dies_is_replaced(http, service):
    os.kill(service[1].network.pid, signal.SIGKILL)
    assert http.post("/v1/enhance", content=picture()).status_code in (200, 503)
    assert http.post("/v1/enhance", content=picture()).status_code == 200


def test_out_of_time(http, service):
    network = service[1].network
    before, network.seconds = network.seconds, 0.0
    try:
        answer = http.post("/v1/enhance", content=picture())
    finally:
        network.seconds = before
    assert is_problem(answer, 504, "longer than the limit")
    assert http.post("/v1/enhance", content=picture()).status_code == 200


def test_a_body_that_stops_coming():
    sent = []

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", b"10")]}
    asyncio.run(BodyLimit(app, 100, silence=0.05)(scope, receive, send))
    assert sent[0]["status"] == 408
    assert b"no more of the body" in sent[1]["body"]


def test_only_so_many_jobs_are_kept(http, folder):
    jobs = [done(http, submit(http)) for _ in range(LIMITS["kept"] + 2)]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and len([*folder.iterdir()]) > LIMITS["kept"]:
        time.sleep(0.2)
    assert len([*folder.iterdir()]) == LIMITS["kept"]
    assert http.get(f"/v1/jobs/{jobs[0]['id']}").status_code == 404
    assert http.get(f"/v1/jobs/{jobs[-1]['id']}").status_code == 200


def test_what_the_command_refuses(llflow, service, weights, tmp_path):
    port = service[0].rpartition(":")[2]
    code, _, err = llflow("serve", "--port", port, "--weights", weights)
    assert (code, "in use" in err) == (1, True)
    code, _, err = llflow("serve", "--host", "no.such.host.invalid", "--weights", weights)
    assert (code, "no.such.host.invalid port 8000" in err) == (1, True)
    (tmp_path / "no.safetensors").write_text("no weights")
    code, _, err = llflow("serve", "--port", 0, "--weights", tmp_path / "no.safetensors")
    assert (code, err.count("\n"), "not a safetensors file" in err) == (1, 0, True)


def test_without_the_extra(llflow, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "llflow.serve.server")
    code, _, err = llflow("serve")
    assert (code, "pip install 'flowkit[serve]'" in err) == (1, True)


def test_openapi_tells_settings_bodies_and_problems(http):
    told = http.get("/v1/openapi.json").json()
    enhance = told["paths"]["/v1/enhance"]["post"]
    assert {p["name"] for p in enhance["parameters"]} == set(Asked.model_fields)
    assert "multipart/form-data" in enhance["requestBody"]["content"]
    assert "application/problem+json" in enhance["responses"]["4XX"]["content"]
    assert is_problem(http.get("/docs"), 404, "Not Found")
