"""Times the authors' release, from a folder of yours, for `fwpkm bench --baseline`.

Install   pip install torch; git clone https://github.com/SakanaAI/fast-weight-product-key-memory DIR (tested: b1c8e23)
Timed     Their bare memory (--folder DIR), eval mode, float32: the one-shot path, one call per chunk, not the making of
          queries and values. The tables live on from call to call; every chunk takes an update, a short last one too.
          What is done once per process is not timed: a small memory of the same kind is fed first.
Device    --device cpu, or cuda, where everything runs as published (not tried yet).
CPU       `embedding_bag_bw_rev_indices`, the backward pass of their embedding bag, is a Triton kernel; the function
          below replaces it, and the file it stands in is not loaded. All else runs as published.
Differs   from the specification: value steps k·H·C/(C - L) times as long; a text's end that is no full chunk takes a step.
"""

import argparse
import hashlib
import importlib
import json
import resource
import sys
import time
from pathlib import Path

CLONE = "git clone https://github.com/SakanaAI/fast-weight-product-key-memory DIR"
SOURCE, TESTED, TESTED_HASH = "src/models/fwpkm/fwpkm.py", "b1c8e23", "f2b88faff2ab"
SIZES = {"--sub-keys": 512, "--key-dim": 512, "--value-dim": 512, "--heads": 1, "--top-k": 8}
OPTIONS = {"--tokens": 1024, **SIZES, "--chunk": 512, "--lookahead": 1, "--batch": 1, "--threads": 2}
try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    print(f"{error}\nto install it: pip install torch", file=sys.stderr)
    sys.exit(2)


def embedding_bag_bw_rev_indices(
    indices: Tensor, weight: Tensor, per_sample_weights: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """What their kernel of this name returns: the gradients of weight and of per_sample_weights."""
    writes = (per_sample_weights.unsqueeze(-1) * gradient.unsqueeze(1)).flatten(0, 1)
    weight_grad = torch.zeros_like(weight).index_add_(0, indices.flatten(), writes)
    return weight_grad, torch.einsum("bkd,bd->bk", weight[indices], gradient)


def load(folder: Path, device: str) -> type[nn.Module]:
    if device == "cpu":
        # This script takes the place of their file of kernels, from which they import that one function.
        sys.modules["src.models.fwpkm.pkm_legacy.xformer_embeddingbag"] = sys.modules[__name__]
    sys.path.insert(0, str(folder.resolve()))
    return importlib.import_module("src.models.fwpkm.fwpkm").FastWeightProductKeyMemory


def wait(given: argparse.Namespace) -> None:
    if given.device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(given: argparse.Namespace) -> int:
    if given.device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@torch.no_grad()  # they turn gradients on where they take one
def seconds_of_feeding(their_memory: type[nn.Module], given: argparse.Namespace) -> float:
    torch.manual_seed(1)
    sizes = given.key_dim, given.value_dim, given.heads, given.top_k, given.sub_keys, given.lookahead
    memory = their_memory(*sizes).eval()
    memory.reset_parameters()
    seconds = 0.0
    for start in range(0, given.tokens, given.chunk):
        tokens = min(given.chunk, given.tokens - start)
        queries = torch.randn(given.batch, tokens, given.heads * given.key_dim)
        values = torch.randn(given.batch, tokens, given.value_dim)
        wait(given)
        started = time.perf_counter()
        memory(queries, values, gates=None, chunk_size=given.chunk)
        wait(given)
        seconds += time.perf_counter() - started
    return seconds


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("--folder", type=Path, required=True, help=f"DIR of: {CLONE}")
    for name, default in OPTIONS.items():
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    if not (given.folder / SOURCE).is_file():
        parser.error(f"argument --folder: no {SOURCE} in {given.folder}; to get it: {CLONE}")
    torch.set_num_threads(given.threads)
    torch.set_default_device(given.device)
    memory, small = load(given.folder, given.device), {"sub_keys": given.top_k, "chunk": given.lookahead + 4, "tokens": 12}
    seconds_of_feeding(memory, argparse.Namespace(**vars(given) | small))
    digest = hashlib.sha256((given.folder / SOURCE).read_bytes()).hexdigest()[:12]
    report = {
        "name": "authors' release", "version": TESTED if digest == TESTED_HASH else f"fwpkm.py sha256 {digest}",
        "tokens": given.tokens, "batch": given.batch, "seconds": seconds_of_feeding(memory, given),
        "peak_bytes": peak_bytes(given),
        "note": "its bare memory, one-shot path, one call per chunk"
        + ("; embedding bag's backward in plain torch, for a CPU" if given.device == "cpu" else ", as published"),
    }  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    main()
