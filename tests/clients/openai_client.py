"""What a user of the official OpenAI client relies on, against a started server: `openai_client.py BASE_URL`."""

import sys
import time

import openai

# A model as small as the starter model needs to be told what it is, or it answers in a French of its own.
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
CAPITAL = [SYSTEM, {"role": "user", "content": "What is the capital of France?"}]


def wait_until_started(client: openai.OpenAI) -> None:
    """The official client retries 503 by itself only a few times; loading may take longer than that."""
    deadline = time.monotonic() + 180
    while True:
        try:
            client.models.list()
            client.chat.completions.create(model="", messages=CAPITAL, max_tokens=1)
            return
        except (openai.NotFoundError, openai.BadRequestError):
            # One that embeds refuses to chat once it is there.
            return
        except (openai.InternalServerError, openai.APIConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def a_chat_names_paris(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=CAPITAL, temperature=0, max_tokens=32)
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def a_streamed_chat_says_the_same(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=CAPITAL, temperature=0, max_tokens=32)
    stream = client.chat.completions.create(
        model=model,
        messages=CAPITAL,
        temperature=0,
        max_completion_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content, text
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert reasons == ["stop"], reasons
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, chunks[-1]
    assert len({c.id for c in chunks}) == 1


def the_stream_helper_works(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=CAPITAL, temperature=0, max_tokens=32) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert "Paris" in final.choices[0].message.content, final


def text_parts_are_taken(client: openai.OpenAI, model: str) -> None:
    parts = [{"type": "text", "text": "What is the capital "}, {"type": "text", "text": "of France?"}]
    messages = [SYSTEM, {"role": "user", "content": parts}]
    answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=32)
    assert "Paris" in answer.choices[0].message.content, answer


def completions_work(client: openai.OpenAI, model: str) -> None:
    arguments = dict(model=model, prompt="The capital of France is", temperature=0, max_tokens=8)
    whole = client.completions.create(**arguments)
    assert "Paris" in whole.choices[0].text, whole
    streamed = "".join(c.choices[0].text for c in client.completions.create(stream=True, **arguments) if c.choices)
    assert streamed == whole.choices[0].text, streamed


def logprobs_are_given(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=CAPITAL, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens, tokens
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token, "greedy takes the likeliest"
        assert token.logprob <= 0


def errors_are_of_the_right_class(client: openai.OpenAI, model: str) -> None:
    try:
        client.chat.completions.create(model=model, messages=CAPITAL, temperature=9)
        raise AssertionError("temperature 9 was taken")
    except openai.BadRequestError as error:
        assert error.param == "temperature", error
    try:
        client.chat.completions.create(model="no-such-model", messages=CAPITAL)
        raise AssertionError("an unknown model was taken")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    try:
        client.chat.completions.create(model=model, messages=CAPITAL, n=17)
        raise AssertionError("n=17 was taken")
    except openai.BadRequestError as error:
        assert error.param == "n" and "'n'" in error.message, error


def a_parked_server_is_an_internal_server_error(client: openai.OpenAI, model: str) -> None:
    # The official client has no class of its own for 503; with no retries it raises at once.
    once = client.with_options(max_retries=0)
    root = str(client.base_url).removesuffix("/v1/")
    client.post(f"{root}/admin/drain", body={}, cast_to=object)
    try:
        once.chat.completions.create(model=model, messages=CAPITAL)
        raise AssertionError("a parked server answered")
    except openai.InternalServerError as error:
        assert error.status_code == 503, error
        assert error.response.headers["retry-after"], error.response.headers
        assert error.request_id, "no x-request-id"
    finally:
        client.post(f"{root}/admin/resume", body={}, cast_to=object)


def main() -> int:
    base_url = sys.argv[1].rstrip("/")
    client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="not-needed")
    wait_until_started(client)
    model = client.models.list().data[0].id
    assert client.models.retrieve(model).id == model
    checks = [
        a_chat_names_paris,
        a_streamed_chat_says_the_same,
        the_stream_helper_works,
        text_parts_are_taken,
        completions_work,
        logprobs_are_given,
        errors_are_of_the_right_class,
        a_parked_server_is_an_internal_server_error,
    ]
    failed = 0
    for check in checks:
        try:
            check(client, model)
            print(f"ok      {check.__name__}")
        except Exception as error:  # every check runs, and each says its own
            failed += 1
            print(f"FAILED  {check.__name__}: {error!r}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
