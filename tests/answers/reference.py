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

    def choice(self, text: str, seed: int, max_tokens: int, sampling: dict, schema: dict | None = None) -> dict:
        body = {
            "messages": [{"role": "user", "content": text}],
            "seed": seed,
            "max_tokens": max_tokens,
            # Its own defaults for these two are not neutral.
            "top_k": 0,
            "repeat_penalty": 1.0,
            **sampling,
        }
        if schema is not None:
            named = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return self.server.handle_chat_completions(body)["choices"][0]

    def choices(
        self, text: str, seeds: int, max_tokens: int, sampling: dict, schema: dict | None = None
    ) -> list[dict]:
        with ThreadPoolExecutor(N_SLOTS) as threads:
            ask = lambda seed: self.choice(text, seed, max_tokens, sampling, schema)
            return list(threads.map(ask, range(seeds)))

    def answers(self, text: str, seeds: int, max_tokens: int, sampling: dict) -> list[str]:
        choices = self.choices(text, seeds, max_tokens, sampling)
        return [choice["message"]["content"] or "" for choice in choices]
