"""Confidences against counted fractions of correct keypoints."""

import numpy as np
import pytest

from hrnet_kpt.evaluation.calibration import Calibration, fit_calibration, load_calibration


def draw(slope, offset, count=20_000):
    """Scores, and similarities that are correct with the probability of the formula."""
    generator = np.random.default_rng(0)
    scores = generator.lognormal(-1.5, 1.0, count)
    probability = 1 / (1 + np.exp(-(slope * np.log(scores) + offset)))
    return scores, np.where(generator.random(count) < probability, 0.9, 0.1)


@pytest.mark.parametrize(("slope", "offset"), [(1.5, 4.5), (0.5, 0.0), (3.0, 2.0)])
def test_fit_finds_what_scores_were_drawn_with(slope, offset):
    """Standard errors of 20,000 draws are below 0.06."""
    found = fit_calibration(*draw(slope, offset))
    assert (found.slope, found.offset) == pytest.approx((slope, offset), abs=0.2)


def test_confidence_is_the_fraction_of_correct_keypoints():
    scores, similarities = draw(1.5, 3.0)
    confidence = fit_calibration(scores, similarities).confidence(scores)
    assert confidence.min() >= 0 and confidence.max() <= 1
    for low in np.arange(0, 1, 0.2):
        inside = (confidence >= low) & (confidence < low + 0.2)
        # 20,000 draws leave 200 at least in each fifth: a standard error of 0.035.
        assert confidence[inside].mean() == pytest.approx(
            np.mean(similarities[inside] >= 0.5), abs=0.1
        )


def test_undetected_instances_do_not_count():
    scores, similarities = draw(1.5, 3.0)
    missed = np.full(500, np.nan)
    with_missed = np.append(scores, missed), np.append(similarities, missed)
    assert fit_calibration(*with_missed) == fit_calibration(scores, similarities)


@pytest.mark.parametrize(
    ("scores", "similarities"),
    [
        ([], []),
        ([0.1, 0.5], [0.2, 0.9]),  # too few
        (np.linspace(0.1, 1, 500), np.ones(500)),  # all correct
        (np.linspace(0.1, 1, 500), np.linspace(1, 0, 500)),  # a falling score
        (np.full(500, 0.3), np.tile([0.0, 1.0], 250)),  # all equal
    ],
)
def test_no_calibration_of_uninformative_scores(scores, similarities):
    assert fit_calibration(np.array(scores), np.array(similarities)) is None


def test_separable_scores_give_finite_numbers():
    scores = np.linspace(0.01, 2, 1000)
    found = fit_calibration(scores, (scores > 0.5).astype(float))
    confidence = found.confidence(scores)
    assert np.isfinite([found.slope, found.offset]).all()
    assert confidence[scores < 0.3].max() < 0.1 and confidence[scores > 0.8].min() > 0.9


def test_confidence_of_any_score_is_a_number():
    confidence = Calibration(2, 1).confidence(np.array([[0, 1e-30, 1.0], [5.33, 1e30, 0.1]]))
    assert np.isfinite(confidence).all() and confidence[0, 2] == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize(
    ("content", "calibration"),
    [
        (None, None),
        ("", None),
        ("[]", None),
        ("{}", None),
        ('{"calibration": {"slope": null}}', None),
        ('{"calibration": {"slope": 2, "offset": 0.5}}', Calibration(2.0, 0.5)),
    ],
)
def test_calibration_of_a_run(tmp_path, content, calibration):
    if content is not None:
        (tmp_path / "inference").mkdir()
        (tmp_path / "inference" / "evaluation.json").write_text(content)
    assert load_calibration(tmp_path / "model_final.pth") == calibration
