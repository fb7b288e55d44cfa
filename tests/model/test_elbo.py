"""The batched bound against a plain loop over sessions, trials and bins, on sequences without
padding."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from metadyn.model.elbo import Targets, elbo, sample_posterior
from metadyn.model.meta_ssm import Observations
from metadyn.model.ops.weighted_log_prob import EntryWeights
from metadyn.model.readin import Visible

N_UNITS, TRIALS, BINS = [3, 5], 4, 8
SESSION = torch.tensor([1, 0])  # not in the order of the model's rows
DISTINCT = torch.tensor(
    [[True, True, True, False], [True] * 4]
)  # the fourth trial of the first place fills the batch
TERMS = ("log_likelihood", "kl_latent", "kl_initial", "kl_embedding", "weight_change")


@pytest.fixture
def batch():
    """Ragged units and windows, gaps, hidden entries, masked bins and a tail that the encoders do
    not see."""
    generator = torch.Generator().manual_seed(3)

    def uniform(*shape):
        return torch.rand(shape, generator=generator)

    time = torch.arange(BINS)
    window = torch.tensor([[8, 6, 8, 5], [7, 8, 4, 3]])
    context = torch.tensor([[6, 5, 8, 1], [7, 5, 3, 2]])
    units = (torch.arange(5) < torch.tensor([5, 3])[:, None]).double()
    inside = time < window[..., None]
    observed = inside & (uniform(2, TRIALS, BINS) < 0.8)
    masked = (uniform(2, TRIALS, BINS) < 0.3) & (time > 0)
    ahead = (time >= context[..., None]) & inside
    counts = (
        torch.poisson(torch.full((2, TRIALS, BINS, 5), 1.5), generator=generator).double()
        * units[:, None, None]
    )
    scored = (uniform(2, TRIALS, BINS, 5) < 0.7) & units[:, None, None].bool()
    weight = EntryWeights(observed * uniform(2, TRIALS, BINS).double(), scored)
    visible = Visible(uniform(2, TRIALS, BINS, 5) < 0.7, 0.7)
    return (
        Observations(counts, observed, context, SESSION, visible, DISTINCT),
        Targets(weight, (masked & (time < context[..., None])) | ahead),
        window,
    )


def noise(model, pooling, seed):
    """Hidden units that the read-in keeps, and the standard normal numbers, as the batched road
    draws them, in its order."""
    generator = torch.Generator().manual_seed(seed)
    kept = torch.ones(2, TRIALS, BINS, 1, dtype=torch.float64)
    if model.readin.dropout:
        draws = torch.rand(2, TRIALS * BINS, 9, generator=generator)
        kept = (draws >= model.readin.dropout).unflatten(1, (TRIALS, BINS)) / (
            1 - model.readin.dropout
        )
    e = torch.randn(
        2, TRIALS if pooling == "trial" else 1, 3, generator=generator, dtype=torch.float64
    )
    z = torch.randn(2, TRIALS, BINS, 2, generator=generator, dtype=torch.float64)
    return kept, e.expand(2, TRIALS, 3), z


def kl(mean, log_var, prior_mean, prior_log_var):
    return kl_divergence(
        Normal(mean, (log_var / 2).exp()), Normal(prior_mean, (prior_log_var / 2).exp())
    ).sum()


def trial_features(model, seen, place, trial, kept):
    row, length = int(SESSION[place]), int(seen.length[place, trial])
    units = N_UNITS[row]
    y = seen.counts[place, trial, :length, :units]
    shown = (
        seen.observed[place, trial, :length, None]
        * seen.visible.entries[place, trial, :length, :units].double()
        / 0.7
    )
    deviations = (y - model.readin.mean[row, :units]) / model.readin.sd[row, :units] * shown
    hidden = torch.relu(
        deviations @ model.readin.weight_in[row, :units] + model.readin.bias_in[row]
    )
    features = (hidden * kept[:length]) @ model.readin.weight_out[row] + model.readin.bias_out[row]
    return features * seen.observed[place, trial, :length, None]


def gru_states(gru, inputs):
    """torch's own GRU of these weights over one sequence (time, input)."""
    return nn.GRU.forward(gru, inputs[None])[0][0]


def session_embeddings(model, features, pooling, place):
    """Mean and variance of q(e) for each trial of one session."""
    heads = [
        model.embedding_encoder.head(gru_states(model.embedding_encoder.gru, f)[-1])
        for f in features
    ]
    means, variances = [head[:3] for head in heads], [head[3:].exp() for head in heads]
    if pooling == "mean":
        count = len(features)
        return [sum(means) / count] * count, [sum(variances) / count] * count
    if pooling == "product":
        return product_of(
            [
                q
                for q, new in zip(zip(means, variances, strict=True), DISTINCT[place], strict=True)
                if new
            ]
        )
    return means, variances


def product_of(posteriors):
    """Natural parameters added trial by trial, each less those of the prior N(0, 1); then the prior
    once."""
    precision, linear = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for mean, variance in posteriors:
        own = 1 / torch.minimum(variance, torch.ones(3, dtype=torch.float64))
        precision, linear = precision + own - 1, linear + own * mean
    return [linear / precision] * TRIALS, [1 / precision] * TRIALS


def step(dynamics, embedding, z):
    """f(z) with the weights' changes written out, and the norm of these changes."""
    weights = {
        "first": dynamics.flow.first.weight,
        "hidden": dynamics.flow.hidden.weight,
        "output": dynamics.flow.output.weight,
    }
    changes, bias_in = written_out(dynamics, embedding), dynamics.flow.first.bias
    if hasattr(dynamics.conditioning, "weight_embedding"):
        bias_in = bias_in + dynamics.conditioning.weight_embedding @ embedding
    weights |= {layer: weights[layer] + change for layer, change in changes.items()}
    first = torch.tanh(weights["first"] @ z + bias_in)
    out = (
        weights["output"] @ torch.tanh(weights["hidden"] @ first + dynamics.flow.hidden.bias)
        + dynamics.flow.output.bias
    )
    norm = (
        sum((change**2).sum() for change in changes.values()).sqrt() if changes else torch.zeros(())
    )
    return z + out if dynamics.flow.residual else out, norm


def written_out(dynamics, embedding):
    """The dense change of each layer that the embedding changes."""
    if hasattr(dynamics.conditioning, "hyper"):
        parts = [
            part.reshape(-1, dynamics.conditioning.rank)
            for part in dynamics.conditioning.hyper(embedding).split(dynamics.conditioning.sizes)
        ]
        return {
            layer: parts[2 * i] @ parts[2 * i + 1].T
            for i, layer in enumerate(dynamics.conditioning.layers)
        }
    if hasattr(dynamics.conditioning, "directions"):
        both = dynamics.conditioning.directions
        return {
            layer: sum(e * direction for e, direction in zip(embedding, each, strict=True))
            for layer, each in both.items()
        }
    return {}


def log_prob(model, row, unit, z, y):
    linear = model.likelihood.weight[row, unit] @ z + model.likelihood.bias[row, unit]
    if hasattr(model.likelihood, "log_var"):
        return Normal(linear, (model.likelihood.log_var[row, unit] / 2).exp()).log_prob(y)
    rate = (
        torch.log1p(linear.exp())
        if type(model.likelihood).__name__.startswith("Softplus")
        else linear.exp()
    )
    return y * rate.log() - rate - torch.lgamma(y + 1)


def plain_terms(model, seen, targets, window, pooling, seed, masks):
    kept, noise_e, noise_z = noise(model, pooling, seed)
    embedded, zero = model.dynamics.embedded, torch.zeros((), dtype=torch.float64)
    totals = dict.fromkeys(TERMS, zero)
    for place, row in enumerate(SESSION.tolist()):
        features = [
            trial_features(model, seen, place, trial, kept[place, trial]) for trial in range(TRIALS)
        ]
        if embedded:
            means, variances = session_embeddings(model, features, pooling, place)
            for trial in range(TRIALS if pooling == "trial" else 1):
                totals["kl_embedding"] = totals["kl_embedding"] + kl(
                    means[trial], variances[trial].log(), torch.zeros(3), torch.zeros(3)
                )
        for trial in range(TRIALS):
            e = (
                means[trial] + variances[trial].sqrt() * noise_e[place, trial]
                if embedded
                else zero.expand(0)
            )
            totals = plain_trial(
                model,
                seen,
                targets,
                window,
                place,
                row,
                trial,
                features[trial],
                e,
                noise_z,
                totals,
                masks,
            )
    totals["weight_change"] = totals["weight_change"] / (2 * TRIALS)
    return totals


def plain_trial(
    model, seen, targets, window, place, row, trial, features, e, noise_z, totals, masks
):
    encoder, totals = model.latent_encoder, dict(totals)
    log_q = model.log_q[row if len(model.log_q) > 1 else 0]
    told = e.detach() if model.detach_embedding else e
    length, inputs = len(features), torch.cat([features, told.expand(len(features), -1)], 1)
    states = [
        gru_states(encoder.forward_gru, inputs),
        gru_states(encoder.backward_gru, inputs.flip(0)).flip(0),
    ]
    mean, log_var = encoder.head(torch.cat(states, -1)).chunk(2, -1)
    totals["kl_initial"] = totals["kl_initial"] + kl(
        mean[0], log_var[0], model.initial.mean, model.initial.log_var
    )
    z = None
    for t in range(int(window[place, trial])):
        before, masked = z, bool(targets.forecast[place, trial, t])
        if t > 0:
            ahead, norm = step(model.dynamics, e, before)
        z = ahead if masked else mean[t] + (log_var[t] / 2).exp() * noise_z[place, trial, t]
        if masked and masks.get("masked") == "sample":
            z = ahead + (log_q / 2).exp() * noise_z[place, trial, t]
        if t > 0 and (masks.get("masked_kl") or not masked) and t < length:
            totals["kl_latent"] = totals["kl_latent"] + kl(mean[t], log_var[t], ahead, log_q)
        for unit in range(N_UNITS[row]):
            y, weight = (
                seen.counts[place, trial, t, unit],
                targets.weight.whole()[place, trial, t, unit],
            )
            totals["log_likelihood"] = totals["log_likelihood"] + weight * log_prob(
                model, row, unit, z, y
            )
    totals["weight_change"] = totals["weight_change"] + norm
    return totals


VARIANTS = [
    {},
    {"pooling": "trial"},
    {"pooling": "product"},
    {"likelihood": "gaussian"},
    {"link": "softplus"},
    {"conditioning": "shared"},
    {"conditioning": "linear"},
    {"conditioning": "embedding_input", "pooling": "product"},
    {"residual": True},
    {"residual": True, "conditioning": "embedding_input"},
    {"changed_layers": ("output",), "rank": 1},
    {"changed_layers": ("output", "first", "hidden"), "rank": 3},
    {"shared_noise": True},
    {"detach_embedding": True},
    {"readin_dropout": 0.4},
    {"masked": "sample"},
    {"masked_kl": True},
    {"masked": "sample", "masked_kl": True, "shared_noise": True},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_terms_and_gradients_are_those_of_a_plain_loop(model, batch, options):
    masks = {key: value for key, value in options.items() if key.startswith("masked")}
    options = {key: value for key, value in options.items() if key not in masks}
    module, pooling = model(**options), options.get("pooling", "mean")
    seen, targets, window = batch
    generator = torch.Generator().manual_seed(5)
    drawn = sample_posterior(
        module,
        seen,
        targets,
        pooling=pooling,
        masked=masks.get("masked", "mean"),
        generator=generator,
    )
    terms = elbo(module, drawn, seen, targets, masked_kl=masks.get("masked_kl", False))
    plain = plain_terms(module, seen, targets, window, pooling, 5, masks)
    if options.get("conditioning") == "shared":
        assert terms.kl_embedding == plain["kl_embedding"] == 0
    for name in TERMS:
        torch.testing.assert_close(
            getattr(terms, name), plain[name].expand(()), rtol=1e-8, atol=1e-8, msg=name
        )
    assert torch.isclose(terms.entries, targets.weight.whole().sum())

    kls = plain["kl_latent"] + plain["kl_initial"] + plain["kl_embedding"]
    plain_loss = (
        -(plain["log_likelihood"] - 0.3 * kls) / targets.weight.whole().sum()
        + 0.7 * plain["weight_change"]
    )
    torch.testing.assert_close(terms.loss(0.3, 0.7), plain_loss, rtol=1e-8, atol=1e-8)
    parameters = dict(module.named_parameters())
    batched = torch.autograd.grad(
        terms.loss(0.3, 0.7), parameters.values(), allow_unused=True, materialize_grads=True
    )
    looped = torch.autograd.grad(
        plain_loss, parameters.values(), allow_unused=True, materialize_grads=True
    )
    for name, one, other in zip(parameters, batched, looped, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-7, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
        )


def bound(model, seen, targets):
    return elbo(
        model,
        sample_posterior(
            model, seen, targets, pooling="mean", generator=torch.Generator().manual_seed(0)
        ),
        seen,
        targets,
    )


def same_terms(one, other):
    return all(
        torch.isclose(getattr(one, name), getattr(other, name), rtol=1e-12, atol=1e-12)
        for name in TERMS
    )


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_weights_of_padded_units_change_nothing(model, batch, likelihood):
    seen, targets, _ = batch
    module = model(likelihood=likelihood)
    before = bound(module, seen, targets)
    with torch.no_grad():
        module.readin.weight_in[0, 3:] = 5.0
        for parameter in module.likelihood.parameters():
            parameter[0, 3:] = -2.0
    assert same_terms(before, bound(module, seen, targets))


def test_counts_of_bins_unobserved_or_behind_the_window_change_nothing(model, batch):
    seen, targets, window = batch
    real = seen.observed & (torch.arange(BINS) < window[..., None])
    other = replace(seen, counts=torch.where(real[..., None], seen.counts, 40.0))
    assert same_terms(bound(model(), seen, targets), bound(model(), other, targets))


def test_hidden_entries_reach_the_likelihood_alone(model, batch):
    seen, targets, _ = batch
    other = replace(seen, counts=torch.where(seen.visible.entries, seen.counts, 4.0))
    one, two = bound(model(), seen, targets), bound(model(), other, targets)
    assert one.log_likelihood != two.log_likelihood
    assert all(getattr(one, name) == getattr(two, name) for name in TERMS[1:])


def test_a_seen_entry_changes_the_bound(model, batch):
    """The other side of the claim on padding."""
    seen, targets, _ = batch
    first = seen.seen[..., None] & seen.visible.entries & (torch.arange(5) < 3)
    where = first.nonzero()[0].tolist()
    counts = seen.counts.clone()
    counts[tuple(where)] += 3
    assert not torch.isclose(
        bound(model(), seen, targets).kl_latent,
        bound(model(), replace(seen, counts=counts), targets).kl_latent,
    )


def test_the_embedding_of_shared_dynamics_is_the_prior(model, batch):
    module = model(conditioning="shared")
    q = module.embedding(module.features(batch[0]), batch[0].length)
    assert q.mean.shape == (2, TRIALS, 3)
    assert not q.mean.any()
    assert not q.log_var.any()
