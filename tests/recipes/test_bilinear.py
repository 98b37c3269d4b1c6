"""The bilinear recipes: sizes of their models, and the tasks that they cut from text. Nothing is trained here."""

import math
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import torch

from edgefc.errors import UsageError
from edgefc.recipes import bilinear_cnn, bilinear_embedding, bilinear_lstm, data
from edgefc.recipes.recipe import Job
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


def test_characters_are_folded() -> None:
    folded = bilinear_lstm._fold("A  b\tz9.\n    É(,\n")

    assert "".join(bilinear_lstm.ALPHABET[token] for token in folded) == "a b z0.\n??,"
    assert len(bilinear_lstm.ALPHABET) == len(set(bilinear_lstm.ALPHABET)) == 32


def test_bits_of_a_model_that_knows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All logits alike are 5 bits for 32 characters; sequences do not overlap, and parts are apart."""
    (tmp_path / "a.txt").write_text(TEXT)
    characters = bilinear_lstm.load(tmp_path)
    model = {arm.name: arm.build(0) for arm in bilinear_lstm.arms(characters)}["bilinear x1"]
    torch.nn.init.zeros_(model.last.weight)
    torch.nn.init.zeros_(model.last.bias)
    monkeypatch.setattr(bilinear_lstm, "QUICK_STEPS", 1)

    assert bilinear_lstm.train(model, Job("", 0, 0.0, characters, False, True)) == pytest.approx(5)
    rows = characters.rows(0)
    assert rows.shape[1] == bilinear_lstm.LENGTH + 1
    assert torch.equal(rows.flatten(), characters.parts[0][: rows.numel()])
    assert sum(map(len, characters.parts)) == pytest.approx(len(TEXT), abs=3)
    loss = bilinear_lstm._nats(model, rows[:3]).detach()
    assert float(loss) == pytest.approx(math.log(32))


def test_a_text_too_short_for_sequences(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("too short")
    with pytest.raises(UsageError, match=r"the user's text are too few for this recipe\. Give a text of about 100,000"):
        bilinear_lstm.load(tmp_path)


def test_lstms_of_one_size() -> None:
    part = torch.zeros(100, dtype=torch.int64)
    models = {arm.name: arm.build(0) for arm in bilinear_lstm.arms(bilinear_lstm.Characters("", (part,) * 3))}

    units = {name: model.last.in_features for name, model in models.items()}
    assert [units[f"bilinear x{scale}"] for scale in (1, 2, 3)] == [64, 128, 192]
    assert numbers(models["bilinear x1"].lstm)[0] == 4 * (4 * 8 + 4 * 8 + 8 * 8 + 8 * 8) + 4 * 64
    assert numbers(models["narrow dense"])[0] == pytest.approx(numbers(models["bilinear x2"])[0], rel=0.05)
    assert all(model(torch.zeros(3, 7, dtype=torch.int64)).shape == (7, 3, 32) for model in models.values())
