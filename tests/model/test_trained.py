"""A model as bytes: there and back exactly; what is damaged or hostile is refused with an error a
person can act on."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from metadyn.config import TrainingConfig
from metadyn.errors import ModelFileError
from metadyn.model.build import build_model
from metadyn.model.trained import SharedLatents, TrainedModel, session_entries
from metadyn.records import SessionEntry, Source

N_UNITS = [3, 5]
KEYS_OF_0_1_0 = {
    *("latent_dim", "embedding_dim", "conditioning", "rank", "changed_layers", "residual"),
    *("shared_noise", "detach_embedding", "likelihood", "link", "hidden", "hyper_hidden"),
    *("readin_hidden", "readin_dim", "readin_dropout", "embedding_hidden", "latent_hidden"),
    "pooling",
}
LATER = {
    "model": {
        "changed_layers",
        "residual",
        "shared_noise",
        "detach_embedding",
        "link",
        "readin_dropout",
    },
    "training": {"warm_start", "optimiser", "masked", "mask_scope", "masked_kl", "multi_step"},
}


@pytest.fixture
def trained(config):
    entries = tuple(
        SessionEntry(key, n, tuple(range(1, n + 1)), Source(uri=f"{key}.nwb", identifier=key))
        for key, n in zip("ab", N_UNITS, strict=True)
    )
    rng = np.random.default_rng(0)
    shared = SharedLatents(
        rng.random(2).astype(np.float32),
        rng.random(2).astype(np.float32),
        ("left", "right"),
        rng.random((2, 4, 2)).astype(np.float32),
        rng.random((2, 2)).astype(np.float32),
        np.eye(2, dtype=np.float32),
    )
    options = TrainingConfig(steps=7, crop_bins=(3, 9))
    return TrainedModel(
        build_model(config(), N_UNITS, seed=3),
        config(),
        0.02,
        entries,
        shared,
        options,
        {"min_rate": 0.1},
    )


def test_bytes_give_the_same_model(trained):
    back = TrainedModel.from_file(trained.file())
    for (name, one), (same, other) in zip(
        trained.module.state_dict().items(), back.module.state_dict().items(), strict=True
    ):
        assert name == same
        assert torch.equal(one, other), name
    for name in ("latent_sd", "weight_var", "latents", "labels", "centers", "trial_spread"):
        np.testing.assert_array_equal(
            getattr(trained.shared_latents, name), getattr(back.shared_latents, name)
        )
    for name in ("config", "training", "bin_width", "sessions", "data"):
        assert getattr(back, name) == getattr(trained, name)


def test_mean_latents_of_conditions_are_unknown_behind_the_same_bins_as_before(trained):
    latents = trained.shared_latents.latents.copy()
    latents[0, 3:], latents[1, 1:] = np.nan, np.nan
    back = TrainedModel.from_file(
        replace(trained, shared_latents=replace(trained.shared_latents, latents=latents)).file()
    )
    np.testing.assert_array_equal(back.shared_latents.latents, latents)


def test_bytes_and_digest_follow_from_the_weights(trained):
    assert trained.file() == trained.file()
    one = trained.file()
    with torch.no_grad():
        trained.module.log_q += 1e-6
    assert trained.file().digest != one.digest


def test_the_file_knows_its_sessions(trained):
    assert session_entries(trained.file().config) == trained.sessions


def test_a_model_stored_before_there_were_options_is_what_it_was(trained):
    """The keys that files of version 0.1.0 lack: their defaults are what those models did."""
    file = trained.file()
    model = {key: value for key, value in file.config["model"].items() if key not in LATER["model"]}
    training = {
        key: value for key, value in file.config["training"].items() if key not in LATER["training"]
    }
    assert len(file.config["model"]) - len(model) == len(LATER["model"])
    back = TrainedModel.from_file(
        replace(file, config={**file.config, "model": model, "training": training})
    )
    assert (back.config, back.training) == (trained.config, trained.training)
    session, e, z = torch.tensor([0, 1]), torch.randn(2, 1, 3), torch.randn(2, 1, 4, 2)
    with torch.no_grad():
        paths = [module.transition(e, session).mean(z) for module in (trained.module, back.module)]
        rates = [module.likelihood(z, session).mean for module in (trained.module, back.module)]
        first = (
            z @ trained.module.likelihood.weight[0].T + trained.module.likelihood.bias[0]
        ).exp()[0]
    assert torch.equal(*paths)
    assert torch.equal(*rates)
    torch.testing.assert_close(rates[1][0], first)


def test_a_file_that_0_1_0_can_follow_says_nothing_that_it_does_not_know(trained, config):
    """0.1.0 refuses unknown keys and words, and formats but the first."""
    stored = trained.file().config
    assert stored["format"] == 1
    assert set(stored["model"]) == KEYS_OF_0_1_0
    assert stored["model"]["changed_layers"] == ["input", "hidden"]
    assert {"distil_steps", "distil_starts"} < stored["training"].keys()
    assert not {"pretrain_steps", "pretrain_inits"} & stored["training"].keys()
    options = {"conditioning": "embedding_input", "changed_layers": ("first", "output")}
    file = replace(trained, config=config(**options), module=build_model(config(**options), [3, 5]))
    old = file.file().config
    assert (old["format"], old["model"]["conditioning"]) == (1, "input")
    assert old["model"]["changed_layers"] == ["input", "output"]
    assert TrainedModel.from_file(file.file()).config == config(**options)
    newer = config(dynamics="linear")
    file = replace(trained, config=newer, module=build_model(newer, [3, 5])).file()
    assert (file.config["format"], file.config["model"]["dynamics"]) == (2, "linear")


def test_a_model_read_back_can_be_trained(trained):
    """Weights read from bytes are parameters with memory of their own."""
    file = trained.file()
    module = TrainedModel.from_file(file).module
    assert all(parameter.requires_grad for parameter in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert TrainedModel.from_file(file).module.log_q.all()


def test_an_unknown_session_is_told_which_there_are(trained):
    with pytest.raises(ModelFileError, match=r"'c'(?s:.*)a, b(?s:.*)metadyn align"):
        trained.index("c")


def test_the_seed_alone_sets_the_first_weights(config):
    one, same, other = (
        build_model(config(), N_UNITS, seed=seed).state_dict() for seed in (0, 0, 1)
    )
    torch.manual_seed(99)
    late = build_model(config(), N_UNITS, seed=0).state_dict()
    assert all(
        torch.equal(one[name], same[name]) and torch.equal(one[name], late[name]) for name in one
    )
    assert not torch.equal(one["dynamics.flow.first.weight"], other["dynamics.flow.first.weight"])


def test_building_leaves_the_random_state_alone(config):
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    build_model(config(), N_UNITS, seed=0)
    assert torch.equal(torch.rand(3), expected)


def with_tensors(file, change):
    """The file with tensors changed in place by `change`."""
    tensors = load(file.weights)
    change(tensors)
    return replace(file, weights=save(tensors))


def with_config(file, **changes):
    return replace(file, config=copy.deepcopy(file.config) | changes)


def without(file, key):
    return replace(file, config={name: value for name, value in file.config.items() if name != key})


DAMAGE = {
    "truncated": lambda file: replace(file, weights=file.weights[: len(file.weights) // 2]),
    "empty": lambda file: replace(file, weights=b""),
    "noise": lambda file: replace(
        file, weights=bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))
    ),
    "pickle": lambda file: replace(file, weights=b"\x80\x04cos\nsystem\n(S'true'\ntR."),
    "header longer than the file": lambda file: replace(
        file, weights=b"\xff" * 7 + b"\x7f" + file.weights[8:]
    ),
    "tensor missing": lambda file: with_tensors(
        file, lambda tensors: tensors.pop("dynamics.weight_in")
    ),
    "frame missing": lambda file: with_tensors(file, lambda tensors: tensors.pop("frame.latents")),
    "tensor more": lambda file: with_tensors(
        file, lambda tensors: tensors.update(more=torch.zeros(1))
    ),
    "other shape": lambda file: with_tensors(
        file, lambda tensors: tensors.update(log_q=torch.zeros(2, 9))
    ),
    "architecture": lambda file: replace(file, architecture="os.system"),
    "format": lambda file: with_config(file, format=3),
    "import string": lambda file: with_config(
        file, model=file.config["model"] | {"conditioning": "os.system"}
    ),
    "key more": lambda file: with_config(
        file, model=file.config["model"] | {"__class__": "os.system"}
    ),
    "sizes beyond memory": lambda file: with_config(
        file, model=file.config["model"] | {"latent_hidden": 10**9}
    ),
    "sizes within memory that no tensor bears out": lambda file: with_config(
        file, model=file.config["model"] | {"hidden": [200_000, 20_000]}
    ),
    "units beyond memory": lambda file: replace(
        file, sessions=(replace(file.sessions[0], n_units=10**12), file.sessions[1])
    ),
    "a session less": lambda file: replace(file, sessions=file.sessions[:1]),
    "no bin width": lambda file: without(file, "bin_width"),
    "no sizes": lambda file: without(file, "model"),
    "no conditions": lambda file: without(file, "conditions"),
    "no training": lambda file: without(file, "training"),
    "sizes are no table": lambda file: with_config(file, model=[1, 2]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_or_hostile_bytes_are_refused(trained, damage):
    with pytest.raises(ModelFileError, match="try"):
        TrainedModel.from_file(damage(trained.file()))
