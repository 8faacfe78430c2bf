from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from astrid.detection import Detector
from astrid.detection.matched_filter import MatchedFilter
from astrid.detection.unet import weights
from astrid.detection.unet.detector import Unet, middles
from astrid.errors import DataError
from astrid.schema import MaskBit
from astrid.simulation.harsh import harsh_tile
from astrid.simulation.seeds import seed_of
from astrid.workflow.examples import harsh_difference


@pytest.fixture(scope="module")
def tiles():
    made = [harsh_tile(seed_of(21, number)) for number in range(16)]
    return [(tile, harsh_difference(tile)) for tile in made]


def test_it_is_a_detector_with_a_threshold_of_its_own():
    assert isinstance(Unet(), Detector)
    assert Unet().name == "unet"
    assert Unet().threshold == weights.read_card(weights.path_of("base")).threshold
    assert Unet(output=0.3).threshold == 0.3


@pytest.mark.parametrize("wrong", [{"output": 0.0}, {"output": 1.5}, {"device": "tpu"}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Unet(**wrong)


def test_it_finds_what_is_bright_and_leaves_artefacts(tiles):
    found = bright = false = plain = 0
    for tile, difference in tiles:
        for name, detector in (("unet", Unet()), ("filter", MatchedFilter(both_signs=False))):
            detections = detector(difference)
            away = np.hypot(detections.y[:, None] - tile.y, detections.x[:, None] - tile.x)
            n_false = int((away.min(axis=1, initial=99) > 3).sum())
            if name == "unet":
                false += n_false
                count = (tile.snr > 8) & (difference.mask[tuple(np.rint([tile.y, tile.x]).astype(int))] == 0)
                bright += int(count.sum())
                found += int((away[:, count].min(axis=0, initial=99) < 2).sum())
            else:
                plain += n_false
    assert found >= 0.85 * bright
    assert false <= 4
    assert plain >= 10 * max(false, 1)


def test_scores_are_probabilities_and_order_the_detections(tiles):
    for _, difference in tiles[:4]:
        detections = Unet(output=0.05)(difference)
        assert ((detections.score >= 0) & (detections.score <= 1)).all()
        assert (np.diff(detections.score) <= 0).all()


def test_positions_are_those_of_the_transients(tiles):
    offsets = []
    for tile, difference in tiles:
        detections = Unet()(difference)
        away = np.hypot(detections.y[:, None] - tile.y, detections.x[:, None] - tile.x)
        offsets += [d for d in away.min(axis=0, initial=99) if d < 2]
    assert np.sqrt(np.mean(np.square(offsets))) < 0.5


def test_a_flat_output_has_its_middle_where_it_is_heaviest():
    output = np.zeros((40, 40), np.float32)
    output[10:15, 20:25] = 1
    output[14, 24] = 0.5
    y, x = middles(output, np.array([[11, 23]]), 4.0)
    np.testing.assert_allclose([y[0], x[0]], [12 - 2 * 0.75 / 24.25, 22 - 2 * 0.75 / 24.25])


def test_a_brighter_neighbour_does_not_draw_the_position_away(tiles):
    _, difference = next(pair for pair in tiles if len(Unet()(pair[1]).y))
    found = Unet()(difference)
    beside = difference.flux.copy()
    y, x = round(found.y[0]), round(found.x[0])
    beside[y + 4, x] += 3 * np.nanmax(beside[y - 2 : y + 3, x - 2 : x + 3])
    again = Unet(output=0.05)(replace(difference, flux=beside))
    away = np.hypot(again.y - found.y[0], again.x - found.x[0])
    assert away.min(initial=99) < 1


def test_a_faded_source_is_found_where_both_signs_are_asked_for(tiles):
    _, difference = next(pair for pair in tiles if pair[0].snr.max() > 20)
    turned = replace(
        difference,
        flux=-difference.flux,
        significance=-difference.significance,
        science=difference.template,
        template=difference.science,
    )
    new, faded = Unet()(difference), Unet(both_signs=True)(turned)
    negative = faded.significance < 0
    assert negative.sum() >= len(new)
    np.testing.assert_allclose(sorted(faded.y[negative])[: len(new)], sorted(new.y), atol=0.01)


def test_what_is_not_a_number_costs_only_its_surroundings(tiles):
    difference = tiles[0][1]
    flux, score = difference.flux.copy(), difference.significance.copy()
    flux[100:110, 100:110] = score[100:110, 100:110] = np.nan
    output = Unet().probability(replace(difference, flux=flux, significance=score))
    assert np.isfinite(output).all()
    far = np.hypot(*(np.indices(output.shape) - 105)) > 60
    np.testing.assert_allclose(output[far], Unet().probability(difference)[far], atol=0.02)


def test_masked_pixels_hold_no_detection(tiles):
    difference = replace(tiles[0][1], mask=np.full((256, 256), MaskBit.BAD, np.uint16))
    assert len(Unet()(difference)) == 0


def test_a_model_that_is_not_there_is_named(tiles):
    with pytest.raises(DataError, match="no model 'mine'"):
        Unet(model="mine")(tiles[0][1])


def test_noise_of_a_resampled_image_is_not_taken_for_transients():
    found = 0
    for seed in range(8):
        tile = harsh_tile(seed, transients=0, artefacts=False, sources=False)
        moved = ndimage.shift(tile.science.flux.astype(np.float64), 0.5, order=3, mode="mirror").astype(np.float32)
        difference = harsh_difference(replace(tile, science=replace(tile.science, flux=moved)), plain=False)
        found += len(Unet()(difference))
    assert found <= 6  # 60 were, when correlated noise was divided by the scatter of its pixels
