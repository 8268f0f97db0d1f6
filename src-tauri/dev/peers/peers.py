"""Samovar beside llama.cpp: the same GGUF, the same number of threads, in turn, in one run.

Each round measures every case on one engine and then on the other, each in a process of its own that loads
the model afresh; the table shows the medians over the rounds and the median of the rounds' ratios.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FULL = ["prefill:128", "prefill:512", "prefill:2048", "prefill:4096", "decode@0", "decode@1024", "decode@4096", "streams:2", "streams:4", "streams:8"]
LARGE = ["prefill:128", "prefill:512", "decode@0", "decode@1024", "streams:2", "streams:4", "streams:8"]


def run(command: list[str]) -> dict[str, float]:
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rates: dict[str, float] = {}
    for line in out.splitlines():
        if line.startswith("{"):
            for case, rate in json.loads(line).items():
                rates.setdefault(case, rate)
    return rates


def cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", required=True, help="the forward_bench program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--cases", nargs="+", help="these instead of those that a model of the size has")
    parser.add_argument("--json", help="write the figures there too")
    parser.add_argument("--models", nargs="+", required=True)
    args = parser.parse_args()

    theirs = [sys.executable, str(HERE / "llama_cpp_bench.py")]
    info = subprocess.run([*theirs, "--model", "-", "--threads", "1", "--system-info"], check=True, stdout=subprocess.PIPE, text=True)
    print(f"{cpu()}, {os.cpu_count()} cores, {args.threads} threads, {args.rounds} rounds, tokens a second")
    print(f"llama.cpp: {info.stdout.strip()}")
    report = {"cpu": cpu(), "threads": args.threads, "rounds": args.rounds, "llama_cpp": info.stdout.strip(), "models": {}}
    for model in args.models:
        size = Path(model).stat().st_size
        cases = args.cases or (LARGE if size > 500_000_000 else FULL)
        common = ["--model", model, "--threads", str(args.threads), "--tokens", str(args.tokens), *cases]
        ours_rounds, theirs_rounds = [], []
        for _ in range(args.rounds):
            ours_rounds.append(run([args.ours, *common]))
            theirs_rounds.append(run([*theirs, *common]))
        print(f"\n{Path(model).name}, {size:,} bytes")
        print(f"  {'case':<14}{'samovar':>10}{'llama.cpp':>11}{'ratio':>8}   ratios of the rounds")
        rows = {}
        for case in dict.fromkeys(c for r in ours_rounds for c in r):
            a = [r[case] for r in ours_rounds if case in r]
            b = [r[case] for r in theirs_rounds if case in r]
            if not a or not b:
                continue
            ratios = [x / y for x, y in zip(a, b)]
            row = {"samovar": statistics.median(a), "llama_cpp": statistics.median(b), "ratio": statistics.median(ratios), "ratios": ratios}
            rows[case] = row
            spread = " ".join(f"{x:.2f}" for x in ratios)
            print(f"  {case:<14}{row['samovar']:>10.1f}{row['llama_cpp']:>11.1f}{row['ratio']:>8.2f}   {spread}")
        report["models"][Path(model).name] = rows
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
