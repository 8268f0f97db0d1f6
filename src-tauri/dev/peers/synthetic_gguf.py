"""Writes a GGUF in the shape and mixture of types of a model that people run, with random weights.

The blocks' bytes are random with small scales, so that every value is finite. It says nothing sensible: it is there to
be timed. With `--layers` it has fewer layers than the model. Those that are asked over HTTP have a vocabulary and a chat
template, which are taken from the reference's (`make reference`); the others have none.
"""

import argparse
import os
from pathlib import Path

import gguf
import numpy as np

Q = gguf.GGMLQuantizationType
# Type, bytes of a block, its values, and where its scales are.
BLOCK = {
    "Q4_0": (Q.Q4_0, 18, 32, slice(0, 2)),
    "Q4_K": (Q.Q4_K, 144, 256, slice(0, 4)),
    "Q5_K": (Q.Q5_K, 176, 256, slice(0, 4)),
    "Q6_K": (Q.Q6_K, 210, 256, slice(208, 210)),
    "Q8_0": (Q.Q8_0, 34, 32, slice(0, 2)),
    "MXFP4": (Q.MXFP4, 17, 32, slice(0, 1)),
}
SCALE = {"Q4_0": 3e-3, "Q4_K": 6e-5, "Q5_K": 3e-5, "Q6_K": 2e-5, "Q8_0": 1e-4}
# What Qwen 3.5's template marks thoughts and calls with, at Qwen 3's places in the vocabulary.
QWEN_MARKERS = {
    151657: "<tool_call>",
    151658: "</tool_call>",
    151665: "<tool_response>",
    151666: "</tool_response>",
    151667: "<think>",
    151668: "</think>",
}
# 2 to the power of -8, as the exponent of an MXFP4 block.
SMALL_EXPONENT = 119


class File:
    def __init__(self, path: str, architecture: str, name: str, has_vocabulary: bool = False) -> None:
        self.path, self.partial = path, path + ".partial"
        self.rng = np.random.default_rng(1)
        self.writer = gguf.GGUFWriter(self.partial, architecture)
        self.writer.add_name(name)
        if not has_vocabulary:
            self.writer.add_tokenizer_model("no_vocab")

    def qwen_vocabulary(self, reference: str, n_vocab: int, template: str) -> None:
        """Qwen 2's words under Qwen 3.5's rules, with its markers, filled up to `n_vocab`: the reference has no others."""
        fields = gguf.GGUFReader(Path(reference) / "vocabularies" / "ggml-vocab-qwen35.gguf").fields
        kinds = fields["tokenizer.ggml.token_type"].contents()
        n_words = kinds.index(gguf.TokenType.CONTROL)
        words = fields["tokenizer.ggml.tokens"].contents()[: n_words + 3]
        tokens = words + [f"[PAD{i}]" for i in range(len(words), n_vocab)]
        types = kinds[: len(words)] + [gguf.TokenType.UNUSED] * (n_vocab - len(words))
        for token, marker in QWEN_MARKERS.items():
            tokens[token], types[token] = marker, gguf.TokenType.USER_DEFINED
        w = self.writer
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("qwen35")
        w.add_token_list(tokens)
        w.add_token_types(types)
        w.add_token_merges(fields["tokenizer.ggml.merges"].contents())
        w.add_eos_token_id(tokens.index("<|im_end|>"))
        w.add_pad_token_id(tokens.index("<|endoftext|>"))
        w.add_add_bos_token(False)
        w.add_chat_template((Path(reference) / "templates" / template).read_text())

    def blocks(self, kind: str, *shape: int):
        dtype, n_bytes, n_values, scales = BLOCK[kind]
        n_blocks = int(np.prod(shape)) // n_values
        data = self.rng.integers(0, 256, size=(n_blocks, n_bytes), dtype=np.uint8)
        if kind == "MXFP4":
            data[:, scales] = SMALL_EXPONENT
        else:
            n_scales = (scales.stop - scales.start) // 2
            data[:, scales] = np.full((n_blocks, n_scales), SCALE[kind], dtype=np.float16).view(np.uint8)
        return data.reshape(*shape[:-1], -1), dtype

    def add(self, name: str, kind: str, *shape: int) -> None:
        data, dtype = self.blocks(kind, *shape)
        self.writer.add_tensor(name, data, raw_dtype=dtype)

    def floats(self, name: str, *shape: int, size: float = 0.02) -> None:
        self.writer.add_tensor(name, (self.rng.standard_normal(shape) * size).astype(np.float32))

    def norm(self, name: str, width: int) -> None:
        self.writer.add_tensor(name, np.ones(width, dtype=np.float32))

    def attention(self, layer: str, kind: str, value_kind: str, hidden: int, heads: int, kv_heads: int, head_dim: int, of_query: int = 1) -> None:
        self.add(layer + "attn_q.weight", kind, of_query * heads * head_dim, hidden)
        self.add(layer + "attn_k.weight", kind, kv_heads * head_dim, hidden)
        self.add(layer + "attn_v.weight", value_kind, kv_heads * head_dim, hidden)
        self.add(layer + "attn_output.weight", kind, hidden, heads * head_dim)

    def feed_forward(self, layer: str, kind: str, down_kind: str, hidden: int, ffn: int, of: str = "", experts: tuple[int, ...] = ()) -> None:
        self.add(f"{layer}ffn_gate{of}.weight", kind, *experts, ffn, hidden)
        self.add(f"{layer}ffn_up{of}.weight", kind, *experts, ffn, hidden)
        self.add(f"{layer}ffn_down{of}.weight", down_kind, *experts, hidden, ffn)

    def norms(self, layer: str, width: int, *names: str) -> None:
        for name in names:
            self.norm(f"{layer}{name}.weight", width)

    def shape(self, layers: int, context: int, hidden: int, ffn: int, heads: int, kv_heads: int, vocab: int) -> None:
        self.writer.add_block_count(layers)
        self.writer.add_context_length(context)
        self.writer.add_embedding_length(hidden)
        self.writer.add_feed_forward_length(ffn)
        self.writer.add_head_count(heads)
        self.writer.add_head_count_kv(kv_heads)
        self.writer.add_vocab_size(vocab)

    def done(self) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        os.replace(self.partial, self.path)


def more(layer: int, layers: int) -> bool:
    """Whether the mixture Q4_K_M gives a layer's more sensitive tensors six bits."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def llama_1b(path: str, layers: int | None) -> None:
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab = layers or 16, 2048, 8192, 32, 8, 64, 128256
    f = File(path, "llama", "synthetic-1b")
    w = f.writer
    f.shape(layers, 131072, hidden, ffn, heads, kv_heads, vocab)
    w.add_rope_dimension_count(head_dim)
    w.add_rope_freq_base(500000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    f.add("token_embd.weight", "Q6_K", vocab, hidden)
    f.norm("output_norm.weight", hidden)
    for layer in range(layers):
        p, six = f"blk.{layer}.", "Q6_K" if more(layer, layers) else "Q4_K"
        f.attention(p, "Q4_K", six, hidden, heads, kv_heads, head_dim)
        f.feed_forward(p, "Q4_K", six, hidden, ffn)
        f.norms(p, hidden, "attn_norm", "ffn_norm")
    f.done()


def qwen3_30b_a3b(path: str, layers: int | None) -> None:
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab = layers or 48, 2048, 768, 32, 4, 128, 151936
    experts = 128
    f = File(path, "qwen3moe", "synthetic-30b-a3b")
    w = f.writer
    f.shape(layers, 262144, hidden, 6144, heads, kv_heads, vocab)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_freq_base(10000000.0)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_expert_count(experts)
    w.add_expert_used_count(8)
    w.add_expert_feed_forward_length(ffn)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    f.add("token_embd.weight", "Q4_K", vocab, hidden)
    f.add("output.weight", "Q6_K", vocab, hidden)
    f.norm("output_norm.weight", hidden)
    for layer in range(layers):
        p, six = f"blk.{layer}.", "Q6_K" if more(layer, layers) else "Q4_K"
        f.attention(p, "Q4_K", six, hidden, heads, kv_heads, head_dim)
        f.norms(p, head_dim, "attn_q_norm", "attn_k_norm")
        f.floats(p + "ffn_gate_inp.weight", experts, hidden)
        f.feed_forward(p, "Q4_K", six, hidden, ffn, "_exps", (experts,))
        f.norms(p, hidden, "attn_norm", "ffn_norm")
    f.done()


def gpt_oss_20b(path: str, layers: int | None) -> None:
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab = layers or 24, 2880, 2880, 64, 8, 64, 201088
    experts = 32
    f = File(path, "gpt-oss", "synthetic-gpt-oss-20b")
    w = f.writer
    f.shape(layers, 131072, hidden, ffn, heads, kv_heads, vocab)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_sliding_window(128)
    w.add_rope_freq_base(150000.0)
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(32.0)
    w.add_rope_scaling_orig_ctx_len(4096)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_expert_count(experts)
    w.add_expert_used_count(4)
    w.add_expert_feed_forward_length(ffn)
    f.add("token_embd.weight", "Q8_0", vocab, hidden)
    f.add("output.weight", "Q8_0", vocab, hidden)
    f.norm("output_norm.weight", hidden)
    for layer in range(layers):
        p = f"blk.{layer}."
        for name, n_heads in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            f.add(p + f"attn_{name}.weight", "Q8_0", n_heads * head_dim, hidden)
            f.floats(p + f"attn_{name}.bias", n_heads * head_dim)
        f.add(p + "attn_output.weight", "Q8_0", hidden, heads * head_dim)
        f.floats(p + "attn_output.bias", hidden)
        f.floats(p + "attn_sinks.weight", heads)
        f.floats(p + "ffn_gate_inp.weight", experts, hidden)
        f.floats(p + "ffn_gate_inp.bias", experts)
        for name, rows, cols in (("gate", ffn, hidden), ("up", ffn, hidden), ("down", hidden, ffn)):
            f.add(p + f"ffn_{name}_exps.weight", "MXFP4", experts, rows, cols)
            f.floats(p + f"ffn_{name}_exps.bias", experts, rows)
        f.norms(p, hidden, "attn_norm", "post_attention_norm")
    f.done()


def qwen3_0_6b(path: str, layers: int | None) -> None:
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab = layers or 28, 1024, 3072, 16, 8, 128, 151936
    f = File(path, "qwen3", "synthetic-qwen3-0.6b")
    w = f.writer
    f.shape(layers, 40960, hidden, ffn, heads, kv_heads, vocab)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_freq_base(1000000.0)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    f.add("token_embd.weight", "Q8_0", vocab, hidden)
    f.norm("output_norm.weight", hidden)
    for layer in range(layers):
        p = f"blk.{layer}."
        f.attention(p, "Q8_0", "Q8_0", hidden, heads, kv_heads, head_dim)
        f.norms(p, head_dim, "attn_q_norm", "attn_k_norm")
        f.feed_forward(p, "Q8_0", "Q8_0", hidden, ffn)
        f.norms(p, hidden, "attn_norm", "ffn_norm")
    f.done()


def gemma4_e4b(path: str, layers: int | None) -> None:
    layers, hidden, ffn, heads, kv_heads, vocab, per_layer = layers or 42, 2560, 10240, 8, 2, 262144, 256
    # The last layers read the cache of the last full layer and of the window before it.
    own = {42: 24}.get(layers, 6)
    windows = [(layer + 1) % 6 != 0 for layer in range(layers)]
    f = File(path, "gemma4", "synthetic-gemma-4-e4b")
    w = f.writer
    f.shape(layers, 131072, hidden, ffn, heads, kv_heads, vocab)
    w.add_key_length(512)
    w.add_value_length(512)
    w.add_uint32("gemma4.attention.key_length_swa", 256)
    w.add_uint32("gemma4.attention.value_length_swa", 256)
    w.add_rope_dimension_count(512)
    w.add_uint32("gemma4.rope.dimension_count_swa", 256)
    w.add_rope_freq_base(1000000.0)
    w.add_float32("gemma4.rope.freq_base_swa", 10000.0)
    w.add_float32("gemma4.final_logit_softcapping", 30.0)
    w.add_sliding_window(512)
    w.add_array("gemma4.attention.sliding_window_pattern", windows)
    w.add_uint32("gemma4.attention.shared_kv_layers", layers - own)
    w.add_uint32("gemma4.embedding_length_per_layer_input", per_layer)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    f.add("token_embd.weight", "Q6_K", vocab, hidden)
    f.add("per_layer_token_embd.weight", "Q4_0", vocab, per_layer * layers)
    f.add("per_layer_model_proj.weight", "Q4_0", per_layer * layers, hidden)
    f.norm("per_layer_proj_norm.weight", per_layer)
    f.norm("output_norm.weight", hidden)
    rotated = np.where(np.arange(256) < 64, 1.0, 1e30).astype(np.float32)
    f.writer.add_tensor("rope_freqs.weight", rotated)
    for layer, is_window in enumerate(windows):
        p, head_dim = f"blk.{layer}.", 256 if is_window else 512
        f.add(p + "attn_q.weight", "Q4_0", heads * head_dim, hidden)
        f.add(p + "attn_output.weight", "Q4_0", hidden, heads * head_dim)
        f.norm(p + "attn_q_norm.weight", head_dim)
        if layer < own:
            f.add(p + "attn_k.weight", "Q4_0", kv_heads * head_dim, hidden)
            f.add(p + "attn_v.weight", "Q4_0", kv_heads * head_dim, hidden)
            f.norm(p + "attn_k_norm.weight", head_dim)
        f.feed_forward(p, "Q4_0", "Q4_0", hidden, ffn)
        f.add(p + "inp_gate.weight", "Q4_0", per_layer, hidden)
        f.add(p + "proj.weight", "Q4_0", hidden, per_layer)
        f.norms(p, hidden, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_norm")
        f.norm(p + "layer_output_scale.weight", 1)
    f.done()


def glm_4_7_flash(path: str, layers: int | None) -> None:
    layers, hidden, ffn, expert_ffn, heads, vocab = layers or 47, 2048, 10240, 1536, 20, 154880
    experts, q_lora, latent, nope, rope, value = 64, 768, 512, 192, 64, 256
    f = File(path, "deepseek2", "synthetic-glm-4.7-flash")
    w = f.writer
    f.shape(layers, 202752, hidden, ffn, heads, 1, vocab)
    w.add_key_length(latent + rope)
    w.add_value_length(latent)
    w.add_uint32("deepseek2.attention.q_lora_rank", q_lora)
    w.add_uint32("deepseek2.attention.kv_lora_rank", latent)
    w.add_uint32("deepseek2.attention.key_length_mla", nope + rope)
    w.add_uint32("deepseek2.attention.value_length_mla", value)
    w.add_rope_dimension_count(rope)
    w.add_rope_freq_base(1000000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_uint32("deepseek2.leading_dense_block_count", 1)
    w.add_expert_count(experts)
    w.add_expert_used_count(4)
    w.add_expert_shared_count(1)
    w.add_expert_feed_forward_length(expert_ffn)
    w.add_expert_weights_scale(1.8)
    w.add_expert_weights_norm(True)
    w.add_uint32("deepseek2.expert_gating_func", 2)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    f.add("token_embd.weight", "Q4_K", vocab, hidden)
    f.add("output.weight", "Q6_K", vocab, hidden)
    f.norm("output_norm.weight", hidden)
    for layer in range(layers):
        p, six = f"blk.{layer}.", "Q6_K" if more(layer, layers) else "Q4_K"
        f.add(p + "attn_q_a.weight", "Q4_K", q_lora, hidden)
        f.norm(p + "attn_q_a_norm.weight", q_lora)
        f.add(p + "attn_q_b.weight", "Q4_K", heads * (nope + rope), q_lora)
        f.add(p + "attn_kv_a_mqa.weight", "Q8_0", latent + rope, hidden)
        f.norm(p + "attn_kv_a_norm.weight", latent)
        # Rows of 192 values, of which no K type has whole blocks.
        f.add(p + "attn_k_b.weight", "Q8_0", heads, latent, nope)
        f.add(p + "attn_v_b.weight", "Q8_0", heads, value, latent)
        f.add(p + "attn_output.weight", "Q4_K", hidden, heads * value)
        if layer == 0:
            f.feed_forward(p, "Q4_K", six, hidden, ffn)
        else:
            f.floats(p + "ffn_gate_inp.weight", experts, hidden)
            f.floats(p + "exp_probs_b.bias", experts)
            f.feed_forward(p, "Q4_K", six, hidden, expert_ffn, "_exps", (experts,))
            f.feed_forward(p, "Q4_K", six, hidden, expert_ffn, "_shexp")
        f.norms(p, hidden, "attn_norm", "ffn_norm")
    f.done()


def qwen3_5_4b(path: str, layers: int | None, reference: str) -> None:
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab = layers or 32, 2560, 9216, 16, 4, 256, 248320
    # Heads of keys and of values in a delta net, values of a head, columns of the convolution.
    k_heads, v_heads, state, conv = 16, 32, 128, 4
    k_dim, v_dim = k_heads * state, v_heads * state
    f = File(path, "qwen35", "synthetic-qwen3.5-4b", has_vocabulary=True)
    w = f.writer
    f.shape(layers, 262144, hidden, ffn, heads, kv_heads, vocab)
    f.qwen_vocabulary(reference, vocab, "Qwen3.5-4B.jinja")
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_dimension_count(64)
    w.add_rope_dimension_sections([11, 11, 10, 0])
    w.add_rope_freq_base(10000000.0)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_uint32("qwen35.full_attention_interval", 4)
    w.add_ssm_conv_kernel(conv)
    w.add_ssm_state_size(state)
    w.add_ssm_group_count(k_heads)
    w.add_ssm_time_step_rank(v_heads)
    w.add_ssm_inner_size(v_dim)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    f.add("token_embd.weight", "Q6_K", vocab, hidden)
    f.norm("output_norm.weight", hidden)
    for layer in range(layers):
        p, six = f"blk.{layer}.", "Q6_K" if more(layer, layers) else "Q4_K"
        if (layer + 1) % 4 == 0:
            # A gate comes with each query.
            f.attention(p, "Q4_K", six, hidden, heads, kv_heads, head_dim, of_query=2)
            f.norms(p, head_dim, "attn_q_norm", "attn_k_norm")
        else:
            f.add(p + "attn_qkv.weight", "Q5_K", 2 * k_dim + v_dim, hidden)
            f.add(p + "attn_gate.weight", "Q4_K", v_dim, hidden)
            f.floats(p + "ssm_conv1d.weight", 2 * k_dim + v_dim, conv, size=0.3)
            # A step's decay is exp(a · softplus(alpha · x + bias)): of all lengths of memory, as models begin with.
            steps = np.exp(f.rng.uniform(np.log(1e-3), np.log(0.1), v_heads))
            w.add_tensor(p + "ssm_dt.bias", np.log(np.expm1(steps)).astype(np.float32))
            w.add_tensor(p + "ssm_a", -f.rng.uniform(1.0, 16.0, v_heads).astype(np.float32))
            f.floats(p + "ssm_alpha.weight", v_heads, hidden)
            f.floats(p + "ssm_beta.weight", v_heads, hidden)
            f.norm(p + "ssm_norm.weight", state)
            f.add(p + "ssm_out.weight", "Q4_K", hidden, v_dim)
        f.feed_forward(p, "Q4_K", six, hidden, ffn)
        f.norms(p, hidden, "attn_norm", "post_attention_norm")
    f.done()


MODELS = {
    "llama-1b": llama_1b,
    "qwen3-0.6b": qwen3_0_6b,
    "qwen3-30b-a3b": qwen3_30b_a3b,
    "gpt-oss-20b": gpt_oss_20b,
    "gemma-4-e4b": gemma4_e4b,
    "glm-4.7-flash": glm_4_7_flash,
    "qwen3.5-4b": qwen3_5_4b,
}
# Those with a vocabulary.
SPEAKING = {"qwen3.5-4b"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--model", choices=MODELS, default="llama-1b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--reference", help="the folder of the reference's vocabularies and templates")
    args = parser.parse_args()
    if args.model in SPEAKING and not args.reference:
        parser.error(f"{args.model} has a vocabulary: --reference says where it is")
    words = [args.reference] if args.model in SPEAKING else []
    MODELS[args.model](args.output, args.layers, *words)


if __name__ == "__main__":
    main()
