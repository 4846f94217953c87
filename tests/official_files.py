"""The released files as tests write them: every name and shape of 4DS-B with its depth readout."""

from __future__ import annotations

import ast

NORM = ("scale", "bias")


def _lines() -> list[str]:
    """Spell the published key tree of 4DS-B with its depth readout, independently of the code under test."""
    backbone, head = "params/layers_0", "params/layers_2"
    lines = [
        f"{backbone}/encoder/patch_embedding/Conv_0/bias (768,)",
        f"{backbone}/encoder/patch_embedding/Conv_0/kernel (2, 16, 16, 3, 768)",
        f"{backbone}/encoder/posenc/embeddings (8, 14, 14, 768)",
        f"{head}/query (6272, 16, 64)",
        f"{head}/temporal_posenc/embeddings (16, 1, 768)",
        f"{head}/key_embedding/kernel (768, 16, 64)",
        f"{head}/key_embedding/bias (16, 64)",
        f"{head}/value_embedding/kernel (768, 16, 64)",
        f"{head}/value_embedding/bias (16, 64)",
        f"{head}/Dense_0/kernel (1024, 1024)",
        f"{head}/Dense_0/bias (1024,)",
        f"{head}/Dense_1/kernel (1024, 128)",
        f"{head}/Dense_1/bias (128,)",
        f"{head}/MLP_0/Dense_0/kernel (1024, 4096)",
        f"{head}/MLP_0/Dense_0/bias (4096,)",
        f"{head}/MLP_0/Dense_1/kernel (4096, 1024)",
        f"{head}/MLP_0/Dense_1/bias (1024,)",
    ]
    lines += [f"{head}/LayerNorm_{i}/{leaf} ({width},)" for i, width in ((0, 768), (1, 1024)) for leaf in NORM]
    for block in (f"{backbone}/processor/layers_{number}" for number in range(12)):
        lines += [f"{block}/{norm}/{leaf} (768,)" for norm in ("attention_norm", "mlp_norm") for leaf in NORM]
        lines += [f"{block}/attention/{name}/kernel (768, 12, 64)" for name in ("query", "key", "value")]
        lines += [f"{block}/attention/{name}/bias (12, 64)" for name in ("query", "key", "value")]
        lines += [f"{block}/attention/out/kernel (12, 64, 768)", f"{block}/attention/out/bias (768,)"]
        lines += [f"{block}/mlp/dense_in/kernel (768, 3072)", f"{block}/mlp/dense_in/bias (3072,)"]
        lines += [f"{block}/mlp/dense_out/kernel (3072, 768)", f"{block}/mlp/dense_out/bias (768,)"]
    return lines


def _shapes() -> dict[str, tuple[int, ...]]:
    pairs = (line.split(" ", 1) for line in _lines())
    return {name: ast.literal_eval(shape) for name, shape in pairs}


OFFICIAL_B = _shapes()
