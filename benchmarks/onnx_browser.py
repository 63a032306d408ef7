"""How long does the exported graph take in a browser, under onnxruntime-web's WebAssembly?

llflow export --onnx llflow.onnx
npm install onnxruntime-web
python benchmarks/onnx_browser.py llflow.onnx node_modules/onnxruntime-web/dist [--threads 1 2]

A picture of a megapixel with the default weights, in Chromium, from the second run on; the pages
are isolated, so that there can be threads. Takes Linux, playwright and chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import measure
import torch

import llflow
from llflow.export.tried import TOLERANCE

SIZE, QUICK = (819, 1228), (33, 57)
RUN = """async ([height, width, threads, times]) => {
  const fetched = async (name) => new Float32Array(await (await fetch(name)).arrayBuffer());
  const ort = await import("/runtime/ort.wasm.min.mjs");
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = location.origin + "/runtime/";
  const session = await ort.InferenceSession.create("/graph.onnx", {executionProviders: ["wasm"]});
  const dark = new ort.Tensor("float32", await fetched("/dark"), [1, 3, height, width]);
  const expected = await fetched("/bright");
  const seconds = [];
  let bright;
  for (let run = 0; run < times; run++) {
    const began = performance.now();
    bright = (await session.run({dark})).bright.data;
    seconds.push((performance.now() - began) / 1000);
  }
  let difference = 0;
  bright.forEach((value, i) => difference = Math.max(difference, Math.abs(value - expected[i])));
  return {isolated: crossOriginIsolated, seconds, difference};
}"""


class Isolated(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        "": "text/html",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def processor_seconds() -> float:
    """Of all processes that this one started, and theirs, as Linux counts it."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        stats[int(path.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])

    def ours(process: int) -> bool:
        parent = stats[process][0] if process in stats else 0
        return parent == os.getpid() or (parent > 1 and ours(parent))

    ticks = sum(spent for process, (_, spent) in stats.items() if ours(process))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", type=Path, help="of the default weights")
    parser.add_argument("runtime", type=Path, help="onnxruntime-web's folder dist")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="a small picture, to see it work")
    args = parser.parse_args()
    if not (args.runtime / "ort.wasm.min.mjs").is_file():
        parser.error(f"{args.runtime}: expected onnxruntime-web's folder dist")
    if args.runs < 2:
        parser.error(f"expected --runs of 2 or more, got {args.runs}")
    size = QUICK if args.quick else SIZE

    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "runtime").symlink_to(args.runtime.resolve())
        (place / "index").write_text("<!doctype html><title>onnxruntime-web</title>")
        shutil.copy(args.graph, place / "graph.onnx")
        dark = 0.2 * torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
        (place / "dark").write_bytes(dark.numpy().tobytes())
        (place / "bright").write_bytes(llflow.enhance(llflow.load().fold(), dark).numpy().tobytes())
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Isolated, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        rows = []
        with sync_playwright() as playwright:
            for threads in args.threads:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{server.server_port}/index")
                spent = []
                for runs in (1, args.runs):
                    before = processor_seconds()
                    came = page.evaluate(RUN, [*size, threads, runs])
                    spent.append(processor_seconds() - before)
                assert came["isolated"]
                assert came["difference"] <= TOLERANCE, came["difference"]
                rows.append(
                    {
                        "size": "×".join(map(str, size)),
                        "threads": threads,
                        "least s": min(came["seconds"][1:]),
                        "processor s a run": (spent[1] - spent[0]) / (args.runs - 1),
                        "largest difference": came["difference"],
                    }
                )
                browser.close()
        server.shutdown()
    print(measure.markdown(rows))


if __name__ == "__main__":
    main()
