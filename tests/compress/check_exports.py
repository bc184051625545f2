#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Import what export_checkpoint.py writes and compare the logits with those of the original.

Usage: check_exports.py RWKVLITE_MODEL MODELS FIXTURES

The demo checkpoint through every container must give the very numbers of demo.rwkvl, which was
made from the .pth; the fixtures of all versions their recorded logits to 1e-4. Standard library
only.
"""
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

EXPORT = pathlib.Path(__file__).with_name("export_checkpoint.py")
DEMO_FORMS = ["safetensors", "fla", "gguf", "rwkv.cpp"]
DEMO_TOKENS = ["1", "261", "45,77,8191,4000,12,300,301,302,77", ",".join(str(i * 37 % 8000 + 1) for i in range(100))]
FIXTURE_FORMS = {
    "rwkv4": ["safetensors", "rwkv.cpp"],
    "rwkv5.1": ["safetensors", "rwkv.cpp"],
    "rwkv5.2": ["safetensors", "rwkv.cpp"],
    "rwkv6": ["safetensors", "rwkv.cpp", "gguf"],
    "rwkv7": ["safetensors", "rwkv.cpp", "gguf", "fla"],
}


def run(*arguments):
    return subprocess.run([str(a) for a in arguments], check=True, stdout=subprocess.PIPE).stdout


def run_tool(tool, *arguments):
    return run(*shlex.split(os.environ.get("MESON_EXE_WRAPPER", "")), tool, *arguments)


def logits(tool, model, tokens, *options):
    return json.loads(run_tool(tool, "logits", "--tokens=" + tokens, *options, model))["logits"]


def convert(tool, source, form, folder, vocabulary, *options):
    """A model file, by way of another container."""
    other, model = folder / "other", folder / "other.rwkvl"
    run(sys.executable, EXPORT, source, form, other, *([vocabulary] if vocabulary else []))
    own = vocabulary and form == "gguf"  # the container has the vocabulary
    vocab = [] if own else ["--vocab", vocabulary or "bytes"]
    run_tool(tool, "import", "--quiet", *vocab, *options, other, model)
    return model


def check_demo(tool, models, folder):
    expected = [logits(tool, models / "demo.rwkvl", tokens) for tokens in DEMO_TOKENS]
    for form in DEMO_FORMS:
        model = convert(tool, models / "base.pth", form, folder, models / "vocab.txt", "--type=f16")
        for tokens, wanted in zip(DEMO_TOKENS, expected):
            if logits(tool, model, tokens) != wanted:
                sys.exit(f"demo through {form}: other logits after {tokens}")
        print(f"demo        {form:12} identical")


def check_fixtures(tool, fixtures, folder):
    for name, forms in FIXTURE_FORMS.items():
        recorded = json.loads((fixtures / f"{name}.json").read_text())
        tokens = ",".join(map(str, recorded["tokens"]))
        for form in forms:
            # rwkv.cpp computes version 5 with another epsilon, and its files are imported so.
            model = convert(tool, fixtures / f"{name}.safetensors", form, folder, None, "--group-norm-eps=64e-5")
            for options in ([], ["--serial"]):
                found = logits(tool, model, tokens, *options)
                error = max(abs(a - b) for a, b in zip(found, recorded["logits"], strict=True))
                if not error <= 1e-4:
                    sys.exit(f"{name} through {form}: logits differ by {error}")
            print(f"{name:11} {form:12} {error:.1e}")


def main():
    tool, models, fixtures = map(pathlib.Path, sys.argv[1:4])
    with tempfile.TemporaryDirectory() as folder:
        check_demo(tool, models, pathlib.Path(folder))
        check_fixtures(tool, fixtures, pathlib.Path(folder))


if __name__ == "__main__":
    main()
