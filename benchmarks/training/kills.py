"""Does a run that is killed again and again end as if it hadn't been?

`llflow train` of tiny, on small crops, in a process of its own that gets SIGKILL at random moments
and is started again, until it has been killed often enough; then it may finish. Another one isn't
killed. Both leave the same files.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record
import torch
from tqdm import tqdm


def command(pairs: Path, out: Path, steps: int) -> list[str]:
    settings = {"hours": 0, "sizes": "2:0.5:32:2,1:0.5:32:2", "held-out": 0.25}
    settings |= {"save-every": 2, "validate-every": 10}
    options = [f"--{name}={value}" for name, value in settings.items()]
    program = [sys.executable, "-m", "llflow", "train", "--recipe=tiny", "--device=cpu"]
    return [*program, f"--data={pairs}", f"--out={out}", f"--steps={steps}", *options]


def started(call: list[str], output: Path) -> subprocess.Popen:
    return subprocess.Popen(call, stdout=output.open("a"), stderr=subprocess.STDOUT)


def killed(process: subprocess.Popen, out: Path, rng: random.Random) -> str | None:
    """SIGKILL at a random moment, from the start to the fourth save; where the run was then."""
    last, saves, times = out / "last.pt", rng.randrange(4), [time.monotonic()]
    seen = last.stat().st_mtime_ns if last.exists() else None
    while len(times) <= saves and process.poll() is None:
        at = last.stat().st_mtime_ns if last.exists() else None
        if at != seen:
            seen = at
            times.append(time.monotonic())
        time.sleep(0.002)
    # Between two saves; or before the first: while it starts, reads pictures, or goes on.
    longest = times[-1] - times[-2] if saves > 1 else [10, 1][saves]
    time.sleep(rng.random() * longest)
    if process.poll() is not None:
        return None
    process.kill()
    process.wait()
    if not last.exists():
        return "before the first save"
    step = torch.load(last, weights_only=True)["progress"]["step"]
    writing = "while writing, " if list(out.rglob(".*.tmp")) else ""
    return f"{writing}after step {step}"


def left(out: Path) -> dict[str, str]:
    """SHA-256 of every file, of last.pt that of its contents, of the log without the times."""
    digests = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.name == "last.pt":
            content = repr(hashed(torch.load(path, weights_only=True))).encode()
        if path.name == "log.jsonl":
            lines = [json.loads(line) for line in content.splitlines()]
            content = repr([{**line, "seconds": None} for line in lines]).encode()
        digests[str(path.relative_to(out))] = hashlib.sha256(content).hexdigest()
    return digests


def hashed(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, hashlib.sha256(value.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return [(key, hashed(value[key])) for key in sorted(value, key=str)]
    return [hashed(item) for item in value] if isinstance(value, list | tuple) else value


def main() -> None:
    parser = record.arguments(
        __doc__.partition("\n")[0],
        "python benchmarks/training/kills.py --data LOL/our485 --kills 20",
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    args = parser.parse_args()
    rng, moments = random.Random(args.seed), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pairs = record.small_pairs(args.data, folder / "pairs", count=8)
        whole, parts = folder / "whole", folder / "parts"
        subprocess.run(command(pairs, whole, args.steps), check=True, stderr=subprocess.DEVNULL)
        bar = tqdm(total=args.kills, unit="kill")
        while len(moments) < args.kills:
            process = started(command(pairs, parts, args.steps), folder / "output")
            moment = killed(process, parts, rng)
            if moment is None:
                output = (folder / "output").read_text()[-1000:]
                sys.exit(f"over after {len(moments)} kills; --steps has to be more\n{output}")
            moments.append(moment)
            bar.update()
        bar.close()
        subprocess.run(command(pairs, parts, args.steps), check=True, stderr=subprocess.DEVNULL)
        expected, came = left(whole), left(parts)
    print(f"{len(moments)} kills: {'; '.join(moments)}\n")
    print("| file | not killed | killed | |\n|---|---|---|---|")
    for name in sorted(expected.keys() | came.keys()):
        pair = expected.get(name, "absent"), came.get(name, "absent")
        verdict = "same" if pair[0] == pair[1] else "DIFFERENT"
        print(f"| {name} | {pair[0][:12]} | {pair[1][:12]} | {verdict} |")
    same = expected == came
    print(f"\nall files the same, bit by bit: {'yes' if same else 'NO'}")
    settings = {"kills": args.kills, "steps": args.steps, "seed": args.seed}
    record.write("training_kills", {"settings": settings, "moments": moments, "same": same})
    sys.exit(not same)


if __name__ == "__main__":
    main()
