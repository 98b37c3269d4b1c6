"""Small models with random weights whose layers edgefc.replace() replaces, and calibration data for them."""

from typing import Any

import torch
from torch import Tensor, nn

TOKENS = 60


def batches(count: int = 6, rows: int = 4, features: int = 32, *, seed: int = 1, steps: int = 6) -> list[Tensor]:
    """Inputs (rows, steps, features) whose features are correlated and have a mean."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(features, features, generator=generator) / features**0.5
    mix *= torch.linspace(2, 0.05, features)
    return [torch.randn(rows, steps, features, generator=generator) @ mix.T + 0.5 for _ in range(count)]


def token_batches(count: int = 5, rows: int = 3, length: int = 8, seed: int = 1) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    result = []
    for _ in range(count):
        ids = torch.randint(0, TOKENS, (rows, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, length // 2 :] = 0
        result.append({"input_ids": ids, "attention_mask": mask})
    return result


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)).eval()


def encoder(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2).eval()


def bert() -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=TOKENS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=16)  # fmt: skip
    return BertModel(config).eval()


def vit() -> Any:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
                       image_size=16, patch_size=8)  # fmt: skip
    return ViTModel(config).eval()


def gpt2(*, head: bool = False) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=TOKENS, n_embd=32, n_layer=2, n_head=2, n_positions=16, use_cache=False)
    return (GPT2LMHeadModel if head else GPT2Model)(config).eval()


def llama(*, tied: bool = False) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=TOKENS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                         num_key_value_heads=1, intermediate_size=64, max_position_embeddings=16, use_cache=False,
                         tie_word_embeddings=tied)  # fmt: skip
    return LlamaForCausalLM(config).eval()


class Bottleneck(nn.Module):
    """A residual block in the style of torchvision."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.relu, self.downsample = nn.ReLU(), None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + x)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.layer1 = nn.Sequential(Bottleneck(16, 8), Bottleneck(16, 8))
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.grouped(self.layer1(self.stem(x)))
        return self.fc(y.mean((-1, -2)))  # type: ignore[no-any-return]


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return ResNet().eval()


def images(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 16, 16, generator=generator) for _ in range(count)]


class Speech(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(32, 16, num_layers=2, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])  # type: ignore[no-any-return]


def speech() -> nn.Module:
    torch.manual_seed(0)
    return Speech().eval()
