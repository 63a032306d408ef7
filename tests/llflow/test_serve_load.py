"""The service under load and under fire: nothing lost, nothing grows, nothing leaks out."""

import asyncio
import contextlib
import io
import logging
import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from short_runs import PROGRAM

pytestmark = pytest.mark.slow

log = logging.getLogger(__name__)  # --log-cli-level INFO shows what was measured
logging.getLogger("httpx").setLevel(logging.WARNING)
FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"]


def picture(file_format="PNG", size=(64, 48), seed=0):
    levels = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, file_format)
    return file.getvalue()


@contextlib.contextmanager
def served(weights, folder, *options):
    """`llflow serve` in a process of its own; its address, and that process."""
    argv = [sys.executable, PROGRAM, "serve", "--port", "0", "--weights", weights]
    argv += ["--device", "cpu", "--precision", "float32", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    try:
        yield process.stdout.readline().split()[1], process
    finally:
        process.send_signal(signal.SIGINT)
        process.said = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        assert [*folder.glob("llflow*")] == []


def descendants(pid):
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


def memory(pid):
    """Bytes that a process and those it started hold, what they share counted once; without files'
    pages, of which other programs take their share."""
    total = 0
    for process in descendants(pid):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
    return 1024 * total


def test_memory_stays_flat_over_1000_requests(weights, tmp_path):
    with served(weights, tmp_path) as (address, process), httpx.Client(base_url=address) as http:
        sizes = []
        for index in range(1000):
            answer = http.post("/v1/enhance", content=picture(seed=index % 7), timeout=60)
            assert answer.status_code == 200
            if index >= 99 and index % 100 == 99:
                sizes.append(memory(process.pid))
        log.info("MB after 100, 200, ... requests: %s", [round(size / 1e6, 1) for size in sizes])
        assert max(sizes) <= 1.05 * sizes[0]
        assert min(sizes) >= 0.95 * sizes[0]


def test_200_at_once(weights, tmp_path):
    """Those that are told to come again do; none is lost, and the page is there all the while."""
    statuses, waits = [], []

    async def one(http, seed):
        while True:
            answer = await http.post("/v1/enhance", content=picture(seed=seed % 5))
            statuses.append(answer.status_code)
            if answer.status_code != 503:
                return answer
            await asyncio.sleep(int(answer.headers["Retry-After"]))

    async def look(http):
        while True:
            start = time.monotonic()
            assert (await http.get("/")).status_code == 200
            waits.append(time.monotonic() - start)
            await asyncio.sleep(0.2)

    async def all_of_them(address):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as http:
            looking = asyncio.create_task(look(http))
            answers = await asyncio.gather(*(one(http, seed) for seed in range(200)))
            looking.cancel()
            await asyncio.wait([looking])
            return answers

    with served(weights, tmp_path, "--max-waiting", "50") as (address, _):
        answers = asyncio.run(all_of_them(address))
    assert [answer.status_code for answer in answers] == [200] * 200
    for seed in range(5):
        assert len({answer.content for answer in answers[seed::5]}) == 1
    assert set(statuses) <= {200, 503}
    log.info("%d times told to come again", statuses.count(503))
    usual = statistics.median(waits)
    log.info("the page within %.2f s usually, %.2f s at most", usual, max(waits))
    assert usual < 2  # the longest wait is also that for other programs on the machine


def test_ctrl_c_in_the_middle(weights, tmp_path):
    """What is computed is given up, what waits is answered, nothing stays behind."""
    large = picture("JPEG", (4000, 3000))
    with served(weights, tmp_path) as (address, process), ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(httpx.post, f"{address}/v1/enhance", content=large, timeout=60)]
        time.sleep(1)
        asked += [pool.submit(httpx.post, f"{address}/v1/enhance", content=picture(), timeout=60)]
        time.sleep(1)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(30)
        answers = [future.result() for future in asked]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert "cancelled" in answers[0].json()["detail"]
    log.info("ended within %.1f s", time.monotonic() - start)


def damaged(number):
    """Pictures of every format, cut off, with bytes changed, or with others' in between."""
    rng = np.random.default_rng(0)
    whole = [picture(name) for name in FORMATS]
    for index in range(number):
        content = bytearray(whole[index % len(whole)])
        kind = index // len(whole) % 4
        if kind == 0:
            content = content[: rng.integers(1, len(content))]
        elif kind == 1:
            for place in rng.integers(0, len(content), 1 + index % 9):
                content[place] = rng.integers(256)
        elif kind == 2:  # headers that lie
            for place in rng.integers(0, min(120, len(content)), 6):
                content[place] = rng.choice([0, 1, 0x7F, 0xFF])
        else:
            place = rng.integers(len(content))
            content[place:place] = rng.bytes(rng.integers(1, 200))
        yield bytes(content)


def test_damaged_pictures(weights, tmp_path):
    counts = {}
    with served(weights, tmp_path) as (address, process):
        with httpx.Client(base_url=address, timeout=60) as http:
            for content in damaged(500):
                answer = http.post("/v1/enhance", content=content)
                counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
                if answer.status_code != 200:
                    assert answer.headers["Content-Type"] == "application/problem+json"
                    assert answer.json()["detail"]
                assert b"Traceback" not in answer.content
                assert str(tmp_path).encode() not in answer.content
            assert http.post("/v1/enhance", content=picture()).status_code == 200
        (root,) = tmp_path.glob("llflow*")
        assert [*root.iterdir()] == []
    log.info("answers by status: %s", counts)
    assert set(counts) <= {200, 415, 422}
    assert "Traceback" not in process.said


def test_schemathesis(weights, tmp_path):
    """What OpenAPI allows and what it doesn't, of every operation."""
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis import checks

    # Bytes that may be any picture's are no picture, and that is refused.
    allowed = [checks.positive_data_acceptance]
    with served(weights, tmp_path) as (address, process):
        schema = schemathesis.openapi.from_url(f"{address}/v1/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 10
        for operation in operations:

            @given(case=operation.as_strategy())
            @settings(max_examples=25, suppress_health_check=[*HealthCheck])
            def call(case):
                case.call_and_validate(excluded_checks=allowed)

            call()
    assert "Traceback" not in process.said
