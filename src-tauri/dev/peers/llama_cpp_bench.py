"""Measures llama.cpp through llama-cpp-python's bindings of its C API; prints one JSON object a case.

Cases: prefill:N (tokens a second for a prompt of N, the median of several if it is short), decode@N (tokens a second at N tokens of context),
streams:N (aggregate tokens a second of N sequences that decode together, 64 tokens of context each).
"""

import argparse
import ctypes
import json
import statistics
import time

from llama_cpp import llama_cpp as c


def token(i: int, n_vocab: int) -> int:
    return (i * 7919 + 13) % (n_vocab - 200) + 100


class Llama:
    def __init__(self, path: str, n_threads: int, n_ctx: int, n_seq: int) -> None:
        c.llama_backend_init()
        c.llama_log_set(QUIET, ctypes.c_void_p(0))
        self.model = c.llama_model_load_from_file(path.encode(), c.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp could not load {path}")
        params = c.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_seq_max = n_seq
        params.n_threads = n_threads
        params.n_threads_batch = n_threads
        params.kv_unified = True
        params.no_perf = True
        self.ctx = c.llama_init_from_model(self.model, params)
        if not self.ctx:
            raise SystemExit("llama.cpp could not make a context")
        self.n_vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        self.batch = c.llama_batch_init(2048, 0, n_seq)

    def clear(self) -> None:
        c.llama_memory_clear(c.llama_get_memory(self.ctx), True)

    def decode(self, items: list[tuple[int, int, int, bool]]) -> None:
        """items: (token, position, sequence, wants logits)"""
        self.batch.n_tokens = len(items)
        for i, (tok, pos, seq, logits) in enumerate(items):
            self.batch.token[i] = tok
            self.batch.pos[i] = pos
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = seq
            self.batch.logits[i] = logits
        if c.llama_decode(self.ctx, self.batch) != 0:
            raise SystemExit("llama_decode failed")
        c.llama_synchronize(self.ctx)

    def prefill(self, n: int, seq: int = 0) -> None:
        for start in range(0, n, 2048):
            end = min(start + 2048, n)
            self.decode([(token(i, self.n_vocab), i, seq, i == n - 1) for i in range(start, end)])


@c.llama_log_callback
def QUIET(level, text, user_data):  # noqa: N802, ARG001
    pass


def repeats(n: int) -> int:
    """How often a prompt of n tokens is computed: a short one is over before a noisy moment is."""
    return 1 if n > 1024 else min(max(2048 // n, 4), 8)


def measure(llama: Llama, case: str, n_decode: int) -> dict[str, float]:
    llama.clear()
    if case.startswith("prefill:"):
        n = int(case.split(":")[1])
        rates = []
        for _ in range(repeats(n)):
            llama.clear()
            start = time.perf_counter()
            llama.prefill(n)
            rates.append(n / (time.perf_counter() - start))
        # The first one of several meets memory that was never touched.
        return {case: statistics.median_high(rates[1:] or rates)}
    if case.startswith("decode@"):
        depth = int(case.split("@")[1])
        rates = {}
        if depth:
            start = time.perf_counter()
            llama.prefill(depth)
            rates[f"prefill:{depth}"] = depth / (time.perf_counter() - start)
        start = time.perf_counter()
        for i in range(n_decode):
            llama.decode([(token(i, llama.n_vocab), depth + i, 0, True)])
        rates[case] = n_decode / (time.perf_counter() - start)
        return rates
    if case.startswith("streams:"):
        n = int(case.split(":")[1])
        for seq in range(n):
            llama.prefill(64, seq)
        start = time.perf_counter()
        for i in range(n_decode):
            llama.decode([(token(i + s, llama.n_vocab), 64 + i, s, True) for s in range(n)])
        return {case: n * n_decode / (time.perf_counter() - start)}
    raise SystemExit(f"unknown case {case}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=48, help="tokens decoded in a decode case")
    parser.add_argument("--system-info", action="store_true")
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    if args.system_info:
        print(c.llama_print_system_info().decode())
        return
    depth = max([int(x.replace("@", ":").split(":")[1]) for x in args.cases if not x.startswith("streams")] + [0])
    streams = max([int(x.split(":")[1]) for x in args.cases if x.startswith("streams:")] + [1])
    n_ctx = max(depth + args.tokens, streams * (64 + args.tokens)) + 256
    llama = Llama(args.model, args.threads, n_ctx, streams)
    measure(llama, "prefill:16", 1)
    for case in args.cases:
        print(json.dumps(measure(llama, case, args.tokens)), flush=True)


if __name__ == "__main__":
    main()
