#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write an official RWKV checkpoint in the forms that others use.

Usage: export_checkpoint.py CHECKPOINT FORM OUTPUT [VOCABULARY]

CHECKPOINT is a .pth (torch's zip form) or a .safetensors with BlinkDL's names. FORM is one of
  safetensors  BlinkDL's names
  fla          Hugging Face / flash-linear-attention names (RWKV-7)
  gguf         as llama.cpp's converter writes it, with VOCABULARY (World text format; RWKV-6, -7)
  rwkv.cpp     as rwkv.cpp's converter writes it
All values are written as float32, so that each reader must give the same numbers. Standard
library only. The tests import each form and compare the logits with the checkpoint's own.
"""
import ast
import json
import math
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict


class Tensor:
    """Shape, and values as little-endian float32 bytes."""

    def __init__(self, shape, data):
        self.shape, self.data = list(shape), bytes(data)
        assert len(self.data) == 4 * self.count()

    def count(self):
        n = 1
        for size in self.shape:
            n *= size
        return n

    def reshaped(self, *shape):
        return Tensor(shape, self.data)

    def squeezed(self):
        return Tensor([n for n in self.shape if n != 1] or [1], self.data)

    def mapped(self, function):
        values = [function(x) for x in struct.unpack(f"<{self.count()}f", self.data)]
        return Tensor(self.shape, struct.pack(f"<{self.count()}f", *values))

    def transposed(self):
        """Of the last two dimensions."""
        *outer, rows, columns = self.shape
        view, out, size = memoryview(self.data).cast("I"), bytearray(), rows * columns
        for at in range(0, self.count(), size):
            for column in range(columns):
                out += view[at:at + size][column::columns].tobytes()
        return Tensor(outer + [columns, rows], out)


def widen(kind, raw):
    if kind in ("FloatStorage", "F32"):
        return raw
    out = bytearray(2 * len(raw))
    if kind in ("BFloat16Storage", "BF16"):
        out[2::4], out[3::4] = raw[0::2], raw[1::2]
        return out
    assert kind in ("HalfStorage", "F16"), kind
    n = len(raw) // 2
    return struct.pack(f"<{n}f", *struct.unpack(f"<{n}e", raw))


def read_pth(path):
    archive = zipfile.ZipFile(path)
    root = next(n for n in archive.namelist() if n.endswith("/data.pkl"))[:-len("data.pkl")]

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            if name == "_rebuild_tensor_v2":
                return lambda storage, offset, shape, stride, *_: (storage, offset, shape, stride)
            return OrderedDict if name == "OrderedDict" else name

        def persistent_load(self, key):
            return key[1], key[2]

    out = OrderedDict()
    for name, ((kind, key), offset, shape, stride) in Reader(archive.open(root + "data.pkl")).load().items():
        count = Tensor.count(type("", (), {"shape": shape}))
        size = 4 if kind == "FloatStorage" else 2
        steps, expected = 1, []
        for n in reversed(shape):
            expected.insert(0, steps)
            steps *= n
        assert list(stride) == expected or count == max(shape), name
        raw = archive.read(root + "data/" + key)[offset * size:(offset + count) * size]
        out[name] = Tensor(shape, widen(kind, raw))
    return out


def read_safetensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    out = OrderedDict()
    for name, entry in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + at for at in entry["data_offsets"])
            out[name] = Tensor(entry["shape"], widen(entry["dtype"], data[start:end]))
    return out


def write_safetensors(tensors, path):
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [at, at + len(tensor.data)]}
        at += len(tensor.data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.data)


def layers_of(weights):
    return 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks."))


def version_of(weights):
    if "blocks.0.att.r_k" in weights:
        return 7
    if "blocks.0.att.time_maa_x" in weights:
        return 6
    return 5 if "blocks.0.att.ln_x.weight" in weights else 4


def to_fla(weights):
    parts = {"ln0.": "pre_norm.", "ln1.": "attn_norm.", "ln2.": "ffn_norm.", "att.ln_x.": "attn.g_norm.",
             "att.receptance.": "attn.r_proj.", "att.key.": "attn.k_proj.", "att.value.": "attn.v_proj.",
             "att.output.": "attn.o_proj."}
    outer = {"emb.weight": "model.embeddings.weight", "head.weight": "lm_head.weight",
             "ln_out.weight": "model.norm.weight", "ln_out.bias": "model.norm.bias"}
    out = OrderedDict()
    for name, tensor in weights.items():
        if name in outer:
            out[outer[name]] = tensor
            continue
        _, layer, rest = name.split(".", 2)
        head = f"model.layers.{layer}."
        if rest[:4] == "att." and rest[4:] in ("w0", "a0", "v0"):
            if layer != "0" or rest != "att.v0":
                out[f"{head}attn.{rest[4]}_lora.lora.2.bias"] = tensor.squeezed()
        elif rest[:4] == "att." and len(rest) == 6 and rest[4] in "wavg" and rest[5] in "12":
            if layer != "0" or rest[4] != "v":
                out[f"{head}attn.{rest[4]}_lora.lora.{'0' if rest[5] == '1' else '2'}.weight"] = tensor.transposed()
        else:
            for old, new in parts.items():
                if rest.startswith(old):
                    rest = new + rest[len(old):]
                    break
            else:
                rest = rest.replace("att.", "attn.", 1)
            out[head + rest] = tensor
    return out


def stack(tensors):
    return Tensor([len(tensors), 1, tensors[0].count()], b"".join(t.data for t in tensors))


def to_rwkvcpp_time(version, rest, tensor, heads):
    """Decay and bonus of versions 4 to 6: values as the forward pass takes them, and by heads."""
    if version == 4:
        return tensor.squeezed().mapped(lambda x: -math.exp(x)) if rest == "att.time_decay" else tensor.squeezed()
    if version == 5 and rest == "att.time_decay":
        tensor = tensor.mapped(lambda x: math.exp(-math.exp(x)))
    if version == 5 and rest == "att.time_first":
        tensor = tensor.mapped(math.exp)
    return tensor.reshaped(heads, tensor.count() // heads, 1)


def to_rwkvcpp(weights):
    """LoRAs transposed; RWKV-7's six mixes stacked in the order r, w, k, v, a, g."""
    version = version_of(weights)
    bonus = weights.get("blocks.0.att.time_faaaa", weights.get("blocks.0.att.time_first"))
    out = OrderedDict()
    for name, tensor in weights.items():
        rest = name.split(".", 2)[-1]
        if rest == "att.x_r":
            out[name[:-1] + "rwkvag"] = stack([weights[name[:-1] + x] for x in "rwkvag"])
        elif rest.startswith("att.x_"):
            continue
        elif rest in ("att.time_decay", "att.time_first", "att.time_faaaa"):
            out[name] = to_rwkvcpp_time(version, rest, tensor, bonus.shape[0])
        elif rest[:4] == "att." and rest[-2:] in ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2"):
            out[name] = tensor.transposed()
        else:
            out[name] = tensor if rest == "att.r_k" else tensor.squeezed()
    return out


def write_rwkvcpp(weights, path):
    vocab, width = weights["emb.weight"].shape
    with open(path, "wb") as file:
        file.write(struct.pack("<6i", 0x67676D66, 101, vocab, width, layers_of(weights), 0))
        for name, tensor in to_rwkvcpp(weights).items():
            key = name.encode()
            file.write(struct.pack("<3i", len(tensor.shape), len(key), 0))
            file.write(struct.pack(f"<{len(tensor.shape)}i", *reversed(tensor.shape)) + key + tensor.data)


def to_gguf(weights, version):
    names = {"ln1.": "attn_norm.", "ln2.": "attn_norm_2.", "att.ln_x.": "time_mix_ln.",
             "att.receptance.": "time_mix_receptance.", "att.key.": "time_mix_key.",
             "att.value.": "time_mix_value.", "att.output.": "time_mix_output.", "att.gate.": "time_mix_gate.",
             "ffn.key.": "channel_mix_key.", "ffn.value.": "channel_mix_value.",
             "ffn.receptance.": "channel_mix_receptance."}
    whole = {"ffn.x_k": "channel_mix_lerp_k", "ffn.time_maa_k": "channel_mix_lerp_k",
             "ffn.time_maa_r": "channel_mix_lerp_r", "att.time_maa_x": "time_mix_lerp_x",
             "att.time_faaaa": "time_mix_first", "att.time_decay": "time_mix_decay",
             "att.time_decay_w1": "time_mix_decay_w1", "att.time_decay_w2": "time_mix_decay_w2",
             "att.time_maa_w1": "time_mix_w1", "att.time_maa_w2": "time_mix_w2"}
    outer = {"emb.weight": "token_embd.weight", "head.weight": "output.weight",
             "ln_out.weight": "output_norm.weight", "ln_out.bias": "output_norm.bias",
             "blocks.0.ln0.weight": "token_embd_norm.weight", "blocks.0.ln0.bias": "token_embd_norm.bias"}
    prefix, mixes = ("att.x_", "rwkvag") if version == 7 else ("att.time_maa_", "wkvrg")
    out = OrderedDict()
    for name, tensor in weights.items():
        if name in outer:
            out[outer[name]] = tensor
            continue
        _, layer, rest = name.split(".", 2)
        head = f"blk.{layer}."
        if rest == prefix + mixes[0]:
            base = name[:-1]
            out[head + "time_mix_lerp_fused.weight"] = stack([weights[base + x] for x in mixes]).reshaped(
                len(mixes), 1, 1, weights[name].count())
        elif rest.startswith(prefix) and rest[len(prefix):] in mixes:
            continue
        elif rest in whole:
            transposed = rest.endswith(("_w1", "_w2"))
            out[head + whole[rest] + ".weight"] = tensor.transposed() if transposed else tensor.squeezed()
        elif any(rest.startswith(old) for old in names):
            old = next(old for old in names if rest.startswith(old))
            out[head + names[old] + rest[len(old):]] = tensor
        else:  # RWKV-7: w0, w1, ..., k_k, k_a, r_k
            tensor = tensor.transposed() if rest[-1] in "12" else tensor.reshaped(tensor.count())
            out[head + "time_mix_" + rest[4:] + ".weight"] = tensor
    for x in "012" if version == 7 else "":  # layer 0 has no v: the converter puts copies of a
        out.setdefault(f"blk.0.time_mix_v{x}.weight", out[f"blk.0.time_mix_a{x}.weight"])
    return out


def read_vocabulary(path):
    tokens = {}
    for line in open(path, encoding="utf-8"):
        value = ast.literal_eval(line[line.index(" "):line.rindex(" ")].strip())
        tokens[int(line.split(" ", 1)[0])] = value.encode() if isinstance(value, str) else value
    return tokens


def write_gguf(weights, path, vocabulary):
    version = version_of(weights)
    tensors = to_gguf(weights, version)
    vocab, width = weights["emb.weight"].shape
    heads = weights["blocks.0.att.r_k" if version == 7 else "blocks.0.att.time_faaaa"].shape[0]
    tokens, types = [b"<s>"], [3]
    known = read_vocabulary(vocabulary) if vocabulary else {}
    for i in range(1, vocab):
        tokens.append(repr(known[i])[2:-1].encode() if i in known else f"[PAD{i}]".encode())
        types.append(1 if i in known else 5)

    def text(value):
        return struct.pack("<Q", len(value)) + value

    def pair(key, kind, value):
        return text(key.encode()) + struct.pack("<I", kind) + value

    name = f"rwkv{version}"
    pairs = [
        pair("general.architecture", 8, text(name.encode())),
        pair("general.name", 8, text(b"exported")),
        pair(f"{name}.block_count", 4, struct.pack("<I", layers_of(weights))),
        pair(f"{name}.embedding_length", 4, struct.pack("<I", width)),
        pair(f"{name}.wkv.head_size", 4, struct.pack("<I", width // heads)),
        pair(f"{name}.attention.layer_norm_epsilon", 6, struct.pack("<f", 1e-5)),
    ]
    if vocabulary:
        pairs += [
            pair("tokenizer.ggml.model", 8, text(b"rwkv")),
            pair("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, vocab) + b"".join(map(text, tokens))),
            pair("tokenizer.ggml.token_type", 9, struct.pack(f"<IQ{vocab}i", 5, vocab, *types)),
            pair("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 0)),
            pair("tokenizer.chat_template", 8, text(b"rwkv-world")),
        ]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs)) + b"".join(pairs)
    at = 0
    for key, tensor in tensors.items():
        shape = list(reversed(tensor.shape))
        head += text(key.encode()) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, at)
        at += len(tensor.data) + -len(tensor.data) % 32
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for tensor in tensors.values():
            file.write(tensor.data + bytes(-len(tensor.data) % 32))


def main():
    source, form, path = sys.argv[1:4]
    weights = read_safetensors(source) if source.endswith(".safetensors") else read_pth(source)
    if form == "safetensors":
        write_safetensors(weights, path)
    elif form == "fla":
        write_safetensors(to_fla(weights), path)
    elif form == "gguf":
        write_gguf(weights, path, sys.argv[4] if len(sys.argv) > 4 else None)
    elif form == "rwkv.cpp":
        write_rwkvcpp(weights, path)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
