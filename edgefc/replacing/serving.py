"""Which configuration can replace which kind of layer: the table SERVICES. making.py makes the layers."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgefc.declared import layers
from edgefc.plan.configurations import (
    PRP,
    Bilinear,
    Circulant,
    Configuration,
    EUGen,
    Half,
    Int2,
    Int3,
    Int4,
    Int8,
    LowRank,
    Monarch,
)  # fmt: skip
from edgefc.replacing.finding import CONVOLUTION, LINEAR, RECURRENT, TABLE

Settings = dict[str, Any]


@dataclass(frozen=True)
class Service:
    """layer: the name of the class. settings: (configuration, seed) -> its keyword arguments."""

    layer: str
    settings: Callable[[Any, int | None], Settings] = lambda configuration, seed: {}

    @property
    def cls(self) -> Any:
        return getattr(importlib.import_module(layers()[self.layer]["module"]), self.layer)


def _circulant(configuration: Circulant, seed: int | None) -> Settings:
    return {"block": configuration.block, "seed": seed}


def _prp(configuration: PRP, seed: int | None) -> Settings:
    return {"distribution": configuration.distribution, "seed": seed}


def _eugen(configuration: EUGen, seed: int | None) -> Settings:
    """The activation is the identity, because what it replaces is linear."""
    return {"features": configuration.features, "activation": "identity", "norm": False, "seed": seed}


def _bits(bits: int) -> Callable[[Any, int | None], Settings]:
    return lambda configuration, seed: {"bits": bits, "group": configuration.group}


def _rotated(bits: int) -> Callable[[Any, int | None], Settings]:
    return lambda configuration, seed: {
        "bits": bits, "group": configuration.group, "seed": seed if configuration.rotate else None,
    }  # fmt: skip


def _int3(configuration: Int3, seed: int | None) -> Settings:
    return {"group": configuration.group, "seed": seed if configuration.rotate else None}


def _terms(configuration: Bilinear, seed: int | None) -> Settings:
    return {"terms": configuration.terms}


SERVICES: Mapping[str, Mapping[type[Configuration], Service]] = {
    LINEAR: {
        Circulant: Service("CirculantLinear", _circulant),
        PRP: Service("PRPLinear", lambda c, seed: {**_prp(c, seed), "rank": c.rank}),
        EUGen: Service("EUGenLinear", _eugen),
        Bilinear: Service("BilinearLinear", _terms),
        LowRank: Service("LowRankLinear"),
        Monarch: Service("MonarchLinear", lambda c, seed: {"blocks": c.blocks}),
        Half: Service("HalfLinear"),
        Int8: Service("QuantizedLinear", _bits(8)),
        Int4: Service("QuantizedLinear", _rotated(4)),
        Int3: Service("Int3Linear", _int3),
        Int2: Service("QuantizedLinear", _rotated(2)),
    },
    CONVOLUTION: {
        Circulant: Service("CirculantConv2d", _circulant),
        PRP: Service("PRPConv2d", _prp),
        Bilinear: Service("BilinearConv2d", _terms),
        Half: Service("HalfConv2d"),
        Int8: Service("QuantizedConv2d", _bits(8)),
        Int4: Service("QuantizedConv2d", _bits(4)),
        Int2: Service("QuantizedConv2d", _bits(2)),
    },
    TABLE: {
        PRP: Service("PRPEmbedding", _prp),
        Bilinear: Service("BilinearEmbedding", _terms),
        LowRank: Service("Embedding"),  # an nn.Embedding and an nn.Linear
        Half: Service("HalfEmbedding"),
        Int8: Service("QuantizedEmbedding", _bits(8)),
        Int4: Service("QuantizedEmbedding", _bits(4)),
        Int2: Service("QuantizedEmbedding", _bits(2)),
    },
    RECURRENT: {
        Circulant: Service("CirculantLSTM", _circulant),
        Bilinear: Service("BilinearLSTM", _terms),
        Int8: Service("QuantizedLSTM", _bits(8)),
        Int4: Service("QuantizedLSTM", _bits(4)),
        Int2: Service("QuantizedLSTM", _bits(2)),
    },
}
