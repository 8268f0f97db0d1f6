"""What a user of the official OpenAI client relies on of an encoder."""

import math

import openai

import checks
from openai_client import client_of

TEXTS = ["a man eats a meal", "somebody has dinner", "the stock market fell"]


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def texts_of_one_meaning_are_near(client: openai.OpenAI, model: str) -> None:
    # The client asks for base64 and decodes it, unless it is told otherwise.
    answer = client.embeddings.create(model=model, input=TEXTS)
    assert [one.index for one in answer.data] == [0, 1, 2], answer
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0, answer.usage
    meal, dinner, market = (one.embedding for one in answer.data)
    assert cosine(meal, dinner) > cosine(meal, market) + 0.2, (cosine(meal, dinner), cosine(meal, market))
    assert abs(sum(x * x for x in meal) - 1) < 1e-5


def floats_are_the_same_as_base64(client: openai.OpenAI, model: str) -> None:
    ask = lambda **more: [one.embedding for one in client.embeddings.create(model=model, input=TEXTS, **more).data]
    for wanted, got in zip(ask(), ask(encoding_format="float"), strict=True):
        assert max(abs(x - y) for x, y in zip(wanted, got, strict=True)) < 1e-7


def fewer_dimensions_have_a_length_of_one(client: openai.OpenAI, model: str) -> None:
    vector = client.embeddings.create(model=model, input=TEXTS[0], dimensions=64).data[0].embedding
    assert len(vector) == 64 and abs(sum(x * x for x in vector) - 1) < 1e-5


def a_long_text_is_refused_or_cut(client: openai.OpenAI, model: str) -> None:
    long = "tea and rain " * 2000
    with checks.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=model, input=[TEXTS[0], long])
    assert (caught.error.code, caught.error.param) == ("context_length_exceeded", "input.1"), caught.error
    answer = client.embeddings.create(model=model, input=long, extra_body={"truncate": True})
    assert len(answer.data) == 1


def a_chat_is_refused_by_the_models_name(client: openai.OpenAI, model: str) -> None:
    with checks.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    assert caught.error.code == "model_not_suitable" and model in caught.error.message, caught.error


if __name__ == "__main__":
    checks.main(
        client_of,
        [
            texts_of_one_meaning_are_near,
            floats_are_the_same_as_base64,
            fewer_dimensions_have_a_length_of_one,
            a_long_text_is_refused_or_cut,
            a_chat_is_refused_by_the_models_name,
        ],
        place=3,
    )
