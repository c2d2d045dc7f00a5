"""Times the PyPI package fast-weight-product-key-memory (0.2.2) for `fwpkm bench --baseline`.

Install   pip install torch fast-weight-product-key-memory==0.2.2
Timed     The package's layer, as it has no bare memory: norms and projections of hidden states of width 768, reads and
          updates, one call per chunk, in float32 without gradients; not the making of the hidden states. It updates
          from a chunk when the next token comes, so T tokens take (T - 1) // C updates; the specification takes T // C.
          What Python and torch do once per process is not timed either: a small layer of the same kind is fed first.
Differs   from the specification: tables per sequence, targets that wrap around at the chunk end, updates that are
          means over the writes, and a memorization gradient that reaches the sub-keys as well.
"""

import argparse
import importlib.metadata
import json
import resource
import sys
import time

PACKAGE, TESTED = "fast-weight-product-key-memory", "0.2.2"
HIDDEN = 768  # as in the layer that `fwpkm bench` times

SIZES = {"--sub-keys": 512, "--key-dim": 512, "--value-dim": 512, "--heads": 1, "--top-k": 8}
OPTIONS = {"--tokens": 1024, **SIZES, "--chunk": 512, "--lookahead": 1, "--batch": 1, "--threads": 2}

try:
    import torch
    from fast_weight_product_key_memory import fwPKM
except ImportError as error:
    print(f"{error}\nto install it: pip install torch {PACKAGE}=={TESTED}", file=sys.stderr)
    sys.exit(2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    for name, default in OPTIONS.items():
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    if given.lookahead != 1:
        parser.error(f"argument --lookahead: the package's targets are always one token ahead, not {given.lookahead}")
    return given


def wait(given: argparse.Namespace) -> None:
    if given.device == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def seconds_of_feeding(given: argparse.Namespace) -> float:
    torch.manual_seed(1)
    layer = fwPKM(
        HIDDEN,
        heads=given.heads,
        chunk_size=given.chunk,
        num_memories=given.sub_keys**2,
        # The package counts the features of one half of the query, and all heads together.
        dim_queries_keys=given.heads * given.key_dim // 2,
        dim_values=given.heads * given.value_dim,
        topk=given.top_k,
    ).eval()
    seconds, memories = 0.0, None
    for start in range(0, given.tokens, given.chunk):
        hidden = torch.randn(given.batch, min(given.chunk, given.tokens - start), HIDDEN)
        wait(given)
        started = time.perf_counter()
        _, memories = layer(hidden, past_memories=memories, return_next_memories=True)
        wait(given)
        seconds += time.perf_counter() - started
    return seconds


def peak_bytes(given: argparse.Namespace) -> int:
    if given.device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    torch.set_default_device(given.device)
    seconds_of_feeding(argparse.Namespace(**vars(given) | {"sub_keys": given.top_k, "chunk": 4, "tokens": 12}))
    seconds = seconds_of_feeding(given)
    updates = max(given.tokens - 1, 0) // given.chunk
    report = {
        "name": PACKAGE, "version": importlib.metadata.version(PACKAGE), "tokens": given.tokens, "batch": given.batch,
        "seconds": seconds, "peak_bytes": peak_bytes(given),
        "note": f"its layer with projections of width {HIDDEN}, one call per chunk, updates taken: {updates}",
    }  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    main()
