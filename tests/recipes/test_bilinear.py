"""The bilinear recipes: sizes of their models, and the tasks that they cut from text. Nothing is trained here."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import torch

from edgefc.errors import UsageError
from edgefc.recipes import bilinear_cnn, bilinear_embedding, data
from edgefc.recipes.sizes import numbers

TEXT = "the cat sat on the mat, and 12 dogs looked at the cat.\n" * 40


def test_the_networks_grow_as_the_authors_layers_do() -> None:
    """Filters with the square of the scale and hidden units with the scale; the classes get a full layer."""
    models = {arm.name: arm.build(0) for arm in bilinear_cnn.arms(data.digits())}

    for scale in (1, 2, 3):
        f, u = scale * 2, scale * 4  # 8 filters are 2 x 4, 16 are 4 x 4, 32 units 4 x 8
        assert numbers(models[f"bilinear x{scale}"][0])[0] == 3 * f + 3 * u + 8 * scale**2
        assert models[f"bilinear x{scale}"](torch.rand(2, 1, 8, 8)).shape == (2, 10)
        assert models[f"bilinear x{scale}"][-1].in_features == 32 * scale
    dense = 9 * 8 + 8 + 72 * 8 + 8 + 72 * 16 + 16 + 144 * 16 + 16 + 64 * 32 + 32 + 32 * 10 + 10
    assert numbers(models["dense"])[0] == dense
    assert numbers(models["small dense"])[0] == pytest.approx(numbers(models["bilinear x2"])[0], rel=0.1)


def test_the_network_takes_other_images() -> None:
    part = data.Part(torch.rand(4, 3, 9, 13), torch.arange(4) % 2)

    models = [arm.build(0) for arm in bilinear_cnn.arms(data.Images("", part, part, 2))]

    assert all(model(part.x).shape == (4, 2) for model in models)


def test_gaps_and_their_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bilinear_embedding._words("The os.path, 12 times_2\n") == ["the", "os", ".", "path", ",", "0", "times_", "0"]
    index = {"b": 0, "a": 1, "far": 70}
    found = bilinear_embedding._gaps(["a", "b", "far", "a", "b", "none", "a", "b"], index)
    none = bilinear_embedding.WORDS - 1
    assert found.x.tolist() == [[0, 70, 0, none], [70, 1, none, 1]]  # neither "far" nor "none" is asked for
    assert found.y.tolist() == [1, 0]

    (tmp_path / "a.txt").write_text(TEXT)
    with pytest.raises(UsageError, match=r"are too few for this recipe\. Give a text of about 100,000 characters\."):
        bilinear_embedding.load(tmp_path)
    monkeypatch.setattr(bilinear_embedding, "ASKED", 5)
    gaps = bilinear_embedding.load(tmp_path)
    assert all(len(part.x) == len(part.y) > 5 and int(part.y.max()) < 5 for part in gaps.parts)


def test_embeddings_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    part = data.Part(torch.tensor([[0, 5, 4000, 4095]]), torch.tensor([1]))
    models = {arm.name: arm.build(0) for arm in bilinear_embedding.arms(bilinear_embedding.Gaps("", (part,) * 3))}

    assert all(model(part.x).shape == (1, 64) for model in models.values())
    behind = {name: numbers(model)[0] - numbers(model.table)[0] for name, model in models.items()}
    assert behind["bilinear x2"] == 4 * 64 + 64 * 64 + 64
    assert [numbers(models[f"bilinear x{scale}"].table)[0] for scale in (1, 2, 3)] == [64 * 12, 64 * 16, 64 * 20]
    assert numbers(models["few words"])[0] == pytest.approx(numbers(models["bilinear x2"])[0], rel=0.01)
    words = models["few words"].table.num_embeddings
    torch.testing.assert_close(
        models["few words"](torch.tensor([[0, 1, 2, words - 1]])), models["few words"](torch.tensor([[0, 1, 2, 4000]]))
    )
