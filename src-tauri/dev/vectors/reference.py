"""llama.cpp's logits without a build: the shared object of the wheel xllamacpp exports llama.cpp's C functions.

The structures are those of the version that `requirements.txt` pins, and of no other.
"""

import ctypes
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np
import xllamacpp

F32 = 0
NO_FLASH_ATTENTION = 0

# How a text's vector comes of its tokens': not at all, and the three ways.
NONE, MEAN, FIRST, LAST = range(4)


def fields(kind: type, names: str) -> list:
    return [(name, kind) for name in names.split()]


class ModelParams(Structure):
    _fields_ = [
        *fields(c_void_p, "devices buffer_overrides"),
        *fields(c_int32, "n_gpu_layers split_mode load_mode lazy_mode main_gpu"),
        *fields(c_void_p, "tensor_split progress progress_data kv_overrides"),
        *fields(c_bool, "vocab_only check_tensors use_extra_buffers no_host no_alloc load_mtp"),
    ]


class ContextParams(Structure):
    _fields_ = [
        *fields(c_uint32, "n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq"),
        *fields(c_int32, "n_threads n_threads_batch"),
        *fields(c_int32, "context_type rope_scaling pooling attention flash_attention"),
        *fields(c_float, "rope_base rope_scale yarn_ext yarn_attn yarn_fast yarn_slow"),
        *fields(c_uint32, "yarn_original_context"),
        *fields(c_float, "defrag"),
        *fields(c_void_p, "eval_callback eval_data"),
        *fields(c_int32, "type_k type_v"),
        *fields(c_size_t, "expert_cache"),
        *fields(c_void_p, "abort abort_data"),
        *fields(c_bool, "embeddings offload_kqv no_perf op_offload swa_full kv_unified"),
        *fields(c_void_p, "samplers"),
        *fields(c_size_t, "n_samplers"),
        *fields(c_void_p, "other_context"),
    ]


class Batch(Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("tokens", POINTER(c_int32)),
        ("embeddings", c_void_p),
        ("positions", POINTER(c_int32)),
        ("n_seq_ids", POINTER(c_int32)),
        ("seq_ids", POINTER(POINTER(c_int32))),
        ("wants_logits", POINTER(c_int8)),
    ]


SIGNATURES = {
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [Batch]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_encode": (c_int32, [c_void_p, Batch]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "llama_get_embeddings_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "llama_get_embeddings_seq": (POINTER(c_float), [c_void_p, c_int32]),
    "llama_free": (None, [c_void_p]),
    "llama_model_free": (None, [c_void_p]),
    "llama_backend_init": (None, []),
}

LOG = []
LOG_CALLBACK = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


@LOG_CALLBACK
def keep_log(_level: int, text: bytes, _data: int) -> None:
    LOG.append(text.decode(errors="replace"))


def library() -> ctypes.CDLL:
    lib = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.llama_log_set.argtypes = [LOG_CALLBACK, c_void_p]
    lib.llama_log_set(keep_log, None)
    lib.llama_backend_init()
    return lib


LIB = library()


def load(path: Path) -> int:
    params = LIB.llama_model_default_params()
    params.n_gpu_layers = 0
    model = LIB.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise RuntimeError("".join(LOG[-12:]))
    return model


def context_params(n_ctx: int) -> ContextParams:
    params = LIB.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = n_ctx
    params.n_threads = params.n_threads_batch = 1
    params.flash_attention = NO_FLASH_ATTENTION
    params.type_k = params.type_v = F32
    params.swa_full = False
    return params


def batch_of(tokens: list[int]) -> Batch:
    batch = LIB.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.tokens[i], batch.positions[i], batch.wants_logits[i] = token, i, 1
        batch.n_seq_ids[i], batch.seq_ids[i][0] = 1, 0
    return batch


def logits(path: Path, tokens: list[int]) -> np.ndarray:
    """The logits of every position, `[n_tokens, n_vocab]`, with keys and values as floats."""
    model = load(path)
    context = LIB.llama_init_from_model(model, context_params(256))
    if not context:
        raise RuntimeError("".join(LOG[-12:]))
    n_vocab = LIB.llama_vocab_n_tokens(LIB.llama_model_get_vocab(model))
    batch = batch_of(tokens)
    code = LIB.llama_decode(context, batch)
    if code:
        raise RuntimeError(f"llama_decode says {code}: " + "".join(LOG[-5:]))
    rows = [np.ctypeslib.as_array(LIB.llama_get_logits_ith(context, i), (n_vocab,)).copy() for i in range(len(tokens))]
    LIB.llama_batch_free(batch)
    LIB.llama_free(context)
    LIB.llama_model_free(model)
    return np.array(rows)


def vectors(model: int, tokens: list[int], pooling: int, width: int) -> np.ndarray:
    """The vector of a text, `[width]`, or where it is not pooled those of its tokens, `[n_tokens, width]`."""
    params = context_params(max(len(tokens), 32))
    params.embeddings, params.pooling = True, pooling
    context = LIB.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("".join(LOG[-12:]))
    batch = batch_of(tokens)
    code = LIB.llama_encode(context, batch)
    if code:
        raise RuntimeError(f"llama_encode says {code}: " + "".join(LOG[-5:]))
    values = lambda pointer: np.ctypeslib.as_array(pointer, (width,)).copy()  # noqa: E731
    if pooling == NONE:
        result = np.array([values(LIB.llama_get_embeddings_ith(context, i)) for i in range(len(tokens))])
    else:
        result = values(LIB.llama_get_embeddings_seq(context, 0))
    LIB.llama_batch_free(batch)
    LIB.llama_free(context)
    return result


def tokens_of(model: int, text: str) -> list[int]:
    """The tokens of a text, with those that open and close it."""
    raw = text.encode()
    room = (c_int32 * (len(raw) + 8))()
    n = LIB.llama_tokenize(LIB.llama_model_get_vocab(model), raw, len(raw), room, len(room), True, True)
    if n < 0:
        raise RuntimeError(f"llama_tokenize says {n}")
    return list(room[:n])
