"""Chat templates as Python renders them: jinja2 with the settings that the package transformers gives it."""

import datetime
import json

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

# What templates know of a vocabulary.
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Refusal(Exception):
    """What a template says by raise_exception."""


class Generation(Extension):
    """{% generation %}: marks answers for training, and is a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def compile_template(source, clock):
    """The template of this source, for which it is `clock` (seconds since 1970) in UTC."""
    now = datetime.datetime.fromtimestamp(clock, datetime.timezone.utc).replace(tzinfo=None)
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = now.strftime
    return environment.from_string(source)


def render(source, clock, variables):
    """("text", the text), ("refused", the template's own words), or ("failed", what Python says)."""
    try:
        return "text", compile_template(source, clock).render(**SPECIAL, **variables)
    except Refusal as refusal:
        return "refused", str(refusal)
    except Exception as error:  # whatever it is that Python cannot do
        return "failed", f"{type(error).__name__}: {error}"


def _raise_exception(message):
    raise Refusal(str(message))


def _tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
