"""The loss on known cells and the checks in front of it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.errors import BadInput, TargetsError
from demo.losses import asymmetric, check_logits, check_targets, known_cell_loss, label_weights

LOGITS = torch.tensor([[0.15, -0.34, 0.12, 0.67, 0.55]])
TARGET = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]])
KNOWN = torch.ones_like(TARGET, dtype=torch.bool)


def test_the_worked_loss_is_0_7644_however_it_is_written():
    assert known_cell_loss(LOGITS, TARGET, KNOWN).item() == pytest.approx(0.7644, abs=5e-5)
    assert F.binary_cross_entropy(LOGITS.sigmoid(), TARGET).item() == pytest.approx(0.7644, abs=5e-5)
    assert F.multilabel_soft_margin_loss(LOGITS, TARGET).item() == pytest.approx(0.7644, abs=5e-5)


def test_softmax_cross_entropy_of_the_same_logits_is_1_7804():
    assert F.cross_entropy(LOGITS, torch.tensor([2])).item() == pytest.approx(1.7804, abs=5e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["bce", "asl"]))
@settings(max_examples=30, deadline=None)
def test_unknown_cells_give_no_loss_and_no_gradient(seed, kind):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 6, generator=generator, requires_grad=True)
    targets = torch.randint(0, 2, (4, 6), generator=generator).float()
    known = torch.rand(4, 6, generator=generator) < 0.5
    loss = known_cell_loss(logits, targets, known, kind=kind)
    loss.backward()
    assert (logits.grad[~known] == 0).all()
    other = known_cell_loss(torch.where(known, logits, logits + 3), targets, known, kind=kind)
    assert other.item() == pytest.approx(loss.item(), abs=1e-6)


def test_the_mean_is_over_known_cells_however_many_unknown_ones_there_are():
    wide = torch.cat([LOGITS, torch.zeros(1, 10_000)], 1)
    targets = torch.cat([TARGET, torch.zeros(1, 10_000)], 1)
    known = torch.cat([KNOWN, torch.zeros(1, 10_000, dtype=torch.bool)], 1)
    assert known_cell_loss(wide, targets, known).item() == pytest.approx(0.7644, abs=5e-5)


def test_a_batch_without_a_known_cell_has_the_loss_zero():
    assert known_cell_loss(LOGITS, TARGET, ~KNOWN).item() == 0


def test_soft_cells_pull_towards_the_old_models_score():
    logits = torch.tensor([[2.0]], requires_grad=True)
    known, soft = torch.tensor([[False]]), torch.tensor([[True]])
    known_cell_loss(logits, torch.tensor([[0.1]]), known, soft, soft_weight=0.3).backward()
    assert logits.grad.item() == pytest.approx(0.3 * (torch.tensor(2.0).sigmoid().item() - 0.1), abs=1e-6)


def test_asl_is_finite_where_half_precision_would_overflow():
    logits = torch.tensor([[-60000.0, 60000.0]], dtype=torch.float16)
    loss = known_cell_loss(logits, torch.tensor([[0.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool), kind="asl")
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_asl_forgives_easy_negatives_and_equals_bce_on_positives():
    easy, hard = asymmetric(torch.tensor([-4.0, 2.0]), torch.zeros(2))
    assert easy == 0
    assert hard > 0.5
    positive = asymmetric(torch.tensor([0.3]), torch.ones(1))
    assert positive.item() == pytest.approx(-F.logsigmoid(torch.tensor(0.3)).item())


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (torch.tensor([[0, 1, 0, 1, 0]]), "int64"),
        (torch.tensor([0.0, 1.0]), "shape"),
        (torch.tensor([[0.0, 1.0, 0.0, -1.0, 0.0]]), "loss can turn negative"),
        (torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0]]), "Outside"),
        (torch.tensor([[0.0, 1.0, 0.0, float("nan"), 0.0]]), "NaN"),
    ],
)
def test_targets_that_make_a_strange_loss_are_refused_with_the_reason(targets, said):
    with pytest.raises(TargetsError, match=said):
        known_cell_loss(LOGITS, targets, KNOWN)
    with pytest.raises(TargetsError, match=said):
        check_targets(LOGITS, targets)


def test_scores_that_already_went_through_a_sigmoid_are_noticed():
    with pytest.raises(TargetsError, match="already went through a sigmoid"):
        check_logits(torch.randn(4, 12, generator=torch.Generator().manual_seed(0)).sigmoid())
    with pytest.raises(TargetsError, match="NaN"):
        check_logits(torch.tensor([[float("nan")]]))
    check_logits(LOGITS)
    check_logits(torch.zeros(3, 12))
    check_logits(torch.tensor([[0.2], [0.7]]))  # one label may lie there by chance


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_with_every_cell_known_label_weights_mean_what_they_mean_in_torch(seed):
    generator = torch.Generator().manual_seed(seed)
    logits, targets = torch.randn(4, 3, generator=generator), torch.rand(4, 3, generator=generator).round()
    weight, pos_weight = torch.rand(3, generator=generator), 5 * torch.rand(3, generator=generator)
    theirs = torch.nn.BCEWithLogitsLoss(weight=weight, pos_weight=pos_weight)(logits, targets)
    ours = known_cell_loss(logits, targets, torch.ones(4, 3, dtype=torch.bool), weight=weight, pos_weight=pos_weight)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["bce", "asl"])
def test_label_weights_scale_a_labels_own_cells_and_pos_weight_its_positives_alone(kind):
    logits, known = torch.zeros(1, 2), torch.tensor([[True, False]])
    present, absent = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    triple = torch.tensor([3.0, 100.0])

    def loss(targets, **weights):
        return known_cell_loss(logits, targets, known, kind=kind, **weights).item()

    assert loss(present, pos_weight=triple) == pytest.approx(3 * loss(present))
    assert loss(absent, pos_weight=triple) == pytest.approx(loss(absent))
    assert loss(absent, weight=triple) == pytest.approx(3 * loss(absent))


def test_label_weights_are_one_number_or_a_file_of_some_labels(tmp_path):
    (tmp_path / "weights.json").write_text('{"dog": 2.5}')
    assert label_weights(None, ["cat", "dog"]) is None
    assert label_weights("3", ["cat", "dog"]).tolist() == [3, 3]
    assert label_weights(str(tmp_path / "weights.json"), ["cat", "dog"]).tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"dgo": 2}', "'dgo', which is not a label"),
        ('{"dog": -1}', "'dog' is -1"),
        ('{"dog": NaN}', "'dog' is nan"),
        ('{"dog": "2"}', "'dog' is '2'"),
        ("[2]", "not a JSON object"),
        ("{", "can be read as JSON"),
    ],
)
def test_label_weights_that_mean_nothing_are_refused_with_the_reason(tmp_path, text, said):
    (tmp_path / "weights.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        label_weights(str(tmp_path / "weights.json"), ["cat", "dog"])


@pytest.mark.parametrize("given", ["-1", "nan", "inf", "no/such/file.json"])
def test_a_weight_that_is_no_number_and_no_file_is_refused(given):
    with pytest.raises(BadInput):
        label_weights(given, ["cat"])
