"""The key of the cache of times."""

from hrnet_kpt.analysis.new_config import step_times
from hrnet_kpt.config import load_config


def test_images_that_are_kept_in_memory_are_read_before_iterations_are_timed():
    for images, cache_mib, expected in ((111, 100, 28), (5, 100, 3), (10_000, 100, 3), (111, 0, 3)):
        cfg = load_config(
            "own.py",
            [
                "data.root=none",
                "dataloader.train.total_batch_size=4",
                f"dataloader.train.mapper.cache_mib={cache_mib}",
            ],
        )
        assert step_times.warm_up_iterations(cfg, images) == expected


def test_times_belong_to_a_machine_a_model_and_a_batch(survey_of, machine_of):
    cfg, survey = load_config("hrnet_w18_small_kpt_synthetic.py"), survey_of([(9, 9)])
    key = step_times.cache_key(cfg, survey, machine_of())
    assert step_times.cache_key(cfg.copy(), survey_of([(9, 9)]), machine_of()) == key
    others = [
        step_times.cache_key(cfg, survey, machine_of(threads=1)),
        step_times.cache_key(cfg, survey, machine_of(name="Another CPU")),
        step_times.cache_key(cfg, survey_of([(9, 9)] * 2), machine_of()),
    ]
    for override in ("dataloader.train.total_batch_size=8", "model.backbone.out_channels=32",
                     "train.amp.enabled=false", "train.eval_train_images=9"):  # fmt: skip
        changed = load_config("hrnet_w18_small_kpt_synthetic.py", [override])
        others.append(step_times.cache_key(changed, survey, machine_of()))
    assert len({key, *others}) == len(others) + 1
    schedule = load_config("hrnet_w18_small_kpt_synthetic.py", ["train.max_iter=7"])
    assert step_times.cache_key(schedule, survey, machine_of()) == key


def test_a_busy_machine_is_a_warning(caplog):
    step_times._warn_if_busy(0.97)
    assert not caplog.records
    step_times._warn_if_busy(0.42)
    assert "42 %" in caplog.text and "--time-again" in caplog.text
