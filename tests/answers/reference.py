"""Answers of llama.cpp, by its prebuilt wheel, sampled as Samovar's defaults say and in llama.cpp's own order.

Needs the packages of tests/answers/requirements.txt. Nothing listens on any address but loopback.
"""

from concurrent.futures import ThreadPoolExecutor

import xllamacpp

# So many answers at once, each with this many positions.
N_SLOTS = 8
SLOT_TOKENS = 1024


class Reference:
    def __init__(self, model: str, threads: int) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = model
        params.n_parallel = N_SLOTS
        params.n_ctx = N_SLOTS * SLOT_TOKENS
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.use_jinja = True
        # Errors only.
        params.verbosity = 1
        params.warmup = False
        params.fit_params = False
        self.server = xllamacpp.Server(params)

    def answer(self, text: str, seed: int, max_tokens: int, sampling: dict) -> str:
        body = {
            "messages": [{"role": "user", "content": text}],
            "seed": seed,
            "max_tokens": max_tokens,
            # Its own defaults for these two are not neutral.
            "top_k": 0,
            "repeat_penalty": 1.0,
            **sampling,
        }
        answer = self.server.handle_chat_completions(body)
        return answer["choices"][0]["message"]["content"] or ""

    def answers(self, text: str, seeds: int, max_tokens: int, sampling: dict) -> list[str]:
        with ThreadPoolExecutor(N_SLOTS) as threads:
            return list(threads.map(lambda seed: self.answer(text, seed, max_tokens, sampling), range(seeds)))
