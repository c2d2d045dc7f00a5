"""A port in numpy, in f32, of what a text reads with the tables it is given; it writes nothing.

python port.py EXPORTED OUTPUTS      EXPORTED from `fwpkm vectors export`; then `fwpkm judge OUTPUTS`
"""

import json
import pathlib
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def run(case, inputs):
    """Settings as in SPEC.md, "Tensors" and "Settings", and arrays by name; gives arrays by name."""
    if "in.hidden" in inputs or case["score"] != "idw" or case["nonlinear"] != "softmax":
        raise NotImplementedError("layers, other scores and weights")
    if case["mode"] != "one_shot" or case["tokens"] > case["chunk"] or case["weights_over"] != "all_heads":
        raise NotImplementedError("several calls or chunks, weights over each head")
    f32 = np.float32
    queries, sub_keys, slot_values = (inputs[f"in.{name}"].astype(f32) for name in ["queries", "sub_keys", "slot_values"])
    sequences, tokens, _ = queries.shape
    heads, k, n = case["heads"], case["topk"], case["n_subkeys"]
    lists = (sequences, tokens, heads, k * k)

    # SCR-1: -ln(ε + |q - K|²) of each half, [B, T, H, 2, n]
    halves = queries.reshape(sequences, tokens, heads, 2, 1, -1)
    scores = -np.log(f32(case["epsilon"]) + ((halves - sub_keys) ** 2).sum(-1))
    # SEL-1: the k best sub-keys of each half, ties by index
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
    first, second = np.moveaxis(np.take_along_axis(scores, best, -1), 3, 0)
    i, j = np.moveaxis(best, 3, 0)
    # SEL-2, SEL-3: the k best of their k² pairs, ties by rank; slot i·n + j
    sums = (first[..., :, None] + second[..., None, :]).reshape(lists)
    slots = (i[..., :, None] * n + j[..., None, :]).reshape(lists)
    pairs = np.argsort(-sums, axis=-1, kind="stable")[..., :k]
    slots, sums = np.take_along_axis(slots, pairs, -1), np.take_along_axis(sums, pairs, -1)
    # RD-1: softmax over all heads together
    powers = np.exp((sums - sums.max((2, 3), keepdims=True)) / f32(case["temperature"]))
    weights = powers / powers.sum((2, 3), keepdims=True)
    # RD-3
    reads = (weights[..., None] * slot_values[slots]).sum((2, 3))
    return {"out.reads": reads, "out.indices": slots.astype(np.int64), "out.weights": weights}


def main(exported, outputs):
    for path in sorted(exported.rglob("*.safetensors")):
        with safe_open(path, "np") as file:
            case = json.loads(file.metadata()["case"])
            inputs = {name: file.get_tensor(name) for name in file.keys()}
        try:
            results = run(case, inputs)
        except NotImplementedError:
            continue  # without a file the vector counts as not recorded
        to = outputs / path.relative_to(exported)
        to.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(result) for name, result in results.items()}, to)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
