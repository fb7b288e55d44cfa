"""The configuration refuses what it does not know and says what was meant."""

import pytest

from metadyn.config import Config, dump_config, load_config
from metadyn.errors import ConfigError
from metadyn.old_words import as_in_format_1, modern


def test_a_misspelt_key_names_the_nearest_right_one(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[data]\nbin_widht = 0.02\n")
    with pytest.raises(ConfigError, match=r"(?s)data\.bin_widht.*config\.toml.*data\.bin_width"):
        load_config(path)


def test_a_key_in_the_wrong_section_names_the_right_section():
    with pytest.raises(ConfigError, match=r"data\.bin_width"):
        load_config(base={"model": {"bin_width": 0.02}})


def test_an_unknown_section_names_the_nearest_one():
    with pytest.raises(ConfigError, match="training"):
        load_config(base={"trainin": {"steps": 3}})


def test_a_value_where_a_section_should_be_is_refused_also_under_flags():
    with pytest.raises(ConfigError, match="training"):
        load_config(base={"training": 3}, training={"steps": 3})


def test_a_value_out_of_range_is_named_with_its_key():
    with pytest.raises(ConfigError, match=r"(?s)data\.bin_width.*-1"):
        load_config(data={"bin_width": -1.0})


def test_a_file_lies_over_the_preset_and_under_the_flags(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[data]\nbin_width = 0.01\nn_bins = 10\n")
    config = load_config(
        path, base={"data": {"bin_width": 0.05, "start": -0.1}}, data={"n_bins": 20, "align": None}
    )
    assert (config.data.bin_width, config.data.start, config.data.n_bins, config.data.align) == (
        0.01,
        -0.1,
        20,
        None,
    )


@pytest.mark.parametrize("where", ["flag", "file"])
def test_a_preset_of_the_paper_lies_under_file_and_flags(tmp_path, where):
    path = tmp_path / "config.toml"
    path.write_text(
        "[model]\nrank = 3\n" + ('[data]\npreset = "paper-motor"\n' if where == "file" else "")
    )
    flags = {"data": {"preset": "paper-motor"}} if where == "flag" else {}
    config = load_config(path, **flags, training={"steps": 7})
    assert (config.model.rank, config.training.steps) == (3, 7)
    assert (config.model.latent_dim, config.training.optimiser, config.training.warm_start) == (
        30,
        "lamb",
        False,
    )
    assert config.data.model_fields_set == {"preset"}
    assert load_config(data={"preset": "perich-co"}).training == Config().training


def test_pretraining_without_a_warm_start_is_refused():
    with pytest.raises(ConfigError, match=r"training\.pretrain_steps(?s:.*)warm_start"):
        load_config(training={"warm_start": False})
    assert not load_config(training={"warm_start": False, "pretrain_steps": 0}).training.warm_start


def test_what_is_dumped_is_what_is_loaded(tmp_path):
    config = load_config(
        data={"where": "result == 'R'", "bin_width": 0.1}, model={"hidden": [8, 4]}
    )
    (tmp_path / "c.toml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.toml") == config != Config()


@pytest.mark.parametrize("text", ["[data", "\x00"])
def test_a_file_that_is_no_toml_is_a_config_error(tmp_path, text):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "c.toml")


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"conditioning": "input"}, {"conditioning": "embedding_input"}),
        ({"changed_layers": ["output", "input"]}, {"changed_layers": ["output", "first"]}),
    ],
)
def test_words_of_version_0_1_0_are_read_wherever_they_stand(tmp_path, old, new):
    (tmp_path / "c.toml").write_text(dump_config_of(old))
    expected = load_config(model=new)
    assert load_config(tmp_path / "c.toml") == load_config(model=old) == expected
    assert type(expected.model)(**old) == expected.model
    back = modern("model", as_in_format_1("model", expected.model.model_dump()))
    assert type(expected.model)(**back) == expected.model


def test_keys_of_version_0_1_0_are_read_wherever_they_stand_and_lie_over_new_ones(tmp_path):
    (tmp_path / "c.toml").write_text("[training]\ndistil_steps = 7\ndistil_starts = 3\n")
    expected = load_config(training={"pretrain_steps": 7, "pretrain_inits": 3})
    old = {"distil_steps": 7, "distil_starts": 3}
    assert load_config(tmp_path / "c.toml") == load_config(training=old) == expected
    assert type(expected.training)(**old) == expected.training
    above = load_config(tmp_path / "c.toml", training={"pretrain_steps": 9}).training
    assert (above.pretrain_steps, above.pretrain_inits) == (9, 3)


def dump_config_of(model):
    import tomli_w

    return tomli_w.dumps({"model": model})


def test_layers_that_the_flow_does_not_have_are_refused_with_those_that_it_has():
    with pytest.raises(ConfigError, match=r"changed_layers(?s:.*)readout.*first, hidden, output"):
        load_config(model={"changed_layers": ["first", "readout"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamics": "linear", "residual": True}, r"residual(?s:.*)only the dynamics mlp"),
        ({"dynamics": "linear", "changed_layers": ["first"]}, r"first; it has matrix"),
        ({"changed_layers": []}, r"changed_layers(?s:.*)at least 1"),
        ({"dynamics": "lorenz"}, r"dynamics(?s:.*)'mlp' or 'linear'"),
    ],
)
def test_options_that_do_not_go_with_the_dynamics_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load_config(model=options)
