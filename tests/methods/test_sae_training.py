"""Learning an SAE: planted dictionaries, the steps' formulas, resumption, and bad input."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import steerlib as st
from steerlib.core.latents import sparse
from steerlib.methods import sae_learner, sae_training
from steerlib.methods.sae_learner import Learner
from tests.methods.sae_cases import ACTIVATIONS
from tests.planted import SITE, planted_model

D, FEATURES, ACTIVE, WORDS = 32, 24, 2, 1500
ORIGIN = st.Origin("planted", "abc")
QUICK = st.SAEPlan(n=32, k=2, epochs=2, batch_size=128, lr=1e-2, chunk=20)


def _plant(seed):
    """Directions of length 1, and rows that are sums of two of them and of one offset."""
    # Not the seed of a plan: an SAE that starts from the same random rows would know them.
    random = torch.Generator().manual_seed(100 + seed)
    true = torch.nn.functional.normalize(torch.randn(FEATURES, D, generator=random), dim=1)
    z = torch.zeros(WORDS, FEATURES)
    for row in z:
        chosen = torch.randperm(FEATURES, generator=random)[:ACTIVE]
        row[chosen] = 1 + torch.rand(ACTIVE, generator=random)
    return true, z @ true + torch.randn(D, generator=random)


def _texts(n=WORDS):
    """Every word once, 25 to a text."""
    return [" ".join(f"w{word}" for word in range(s, s + 25)) for s in range(0, n, 25)]


@pytest.fixture(scope="module")
def planted():
    true, rows = _plant(0)
    return true, rows, planted_model(rows), _texts()


def _likeness(true, rows):
    """For each planted direction the largest cosine of a row."""
    return (true @ rows.T).amax(1)


def _same(a, b):
    names = ("encoder", "bias", "decoder", "offset", "floor")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


# --- what is learned


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_planted_dictionary_is_recovered(planted, activation):
    true, h, model, texts = planted
    plan = replace(QUICK, activation=activation, n=64, epochs=30, chunk=60, l1=0.5,
                   dead_after=2000)  # fmt: skip
    sae = st.train_sae(model, texts, SITE, plan)
    assert _likeness(true, sae.decoder).mean() > 0.95
    start = Learner(D, plan).parameters["decoder"].detach()
    assert _likeness(true, start).mean() < 0.6
    z = sae.encode(h)
    error = (h - sae.decode(z)).square().sum() / (h - h.mean(0)).square().sum()
    assert error < 0.03
    open_ = (z > 0).float().sum(1).mean().item()
    if activation == "relu":
        assert 2 < open_ < 10
    else:
        assert open_ == pytest.approx(2, rel=0.1)
    assert torch.allclose(sae.decoder.norm(dim=1), torch.ones(64), atol=1e-5)
    assert (sae.activation, sae.site, sae.d, sae.n) == (activation, SITE, D, 64)
    assert sae.origin == st.Origin(model.id, model.revision, f"sae {activation}", 0)
    st.steer(model, sae.clamp(3, 1.0))


def test_a_higher_price_opens_fewer_latents(planted):
    _, h, model, texts = planted
    plan = replace(QUICK, activation="relu", epochs=10)
    few, many = (
        st.train_sae(model, texts, SITE, replace(plan, l1=price)).encode(h) for price in (3.0, 0.1)
    )
    assert (few > 0).sum() < 0.7 * (many > 0).sum()
    assert few.sum() < many.sum()


def test_every_word_is_read_and_no_bos(planted):
    _, rows, model, texts = planted
    read = sae_training._Reader(model, texts, SITE, False, 7)
    found = read.rows(list(range(len(texts))))
    assert found.shape == rows.shape
    assert torch.allclose(found.sum(0), rows.sum(0), rtol=1e-4)
    assert torch.allclose(read.rows([3]), rows[75:100])


def test_each_epoch_reads_every_text_once_in_an_order_of_its_own():
    plan = replace(QUICK, chunk=7)
    first, second = (list(sae_training._chunks(60, plan, epoch)) for epoch in (0, 1))
    for chunks in (first, second):
        assert [len(chunk) for chunk in chunks] == [7] * 8 + [4]
        assert sorted(text for chunk in chunks for text in chunk) == list(range(60))
    assert first != second
    assert first == list(sae_training._chunks(60, plan, 0))
    assert first != list(sae_training._chunks(60, replace(plan, seed=1), 0))


@pytest.mark.parametrize("chunk", [60, 20])
def test_activations_are_centred_scaled_and_mixed(planted, monkeypatch, chunk):
    _, rows, model, texts = planted
    inner, seen = Learner.step, []

    def step(self, x, progress):
        seen.append((x, progress))
        return inner(self, x, progress)

    monkeypatch.setattr(Learner, "step", step)
    plan = replace(QUICK, chunk=chunk)
    st.train_sae(model, texts, SITE, plan)
    assert all(100 < len(x) <= 128 for x, _ in seen)
    assert [p for _, p in seen] == pytest.approx([step / 24 for step in range(24)])
    # The centre and the scale of the first chunk are those of the run.
    opening = torch.cat(
        [rows[25 * n : 25 * n + 25] for n in next(sae_training._chunks(60, plan, 0))]
    )
    spread = (opening - opening.mean(0)).square().mean().sqrt()
    normal = (rows - opening.mean(0)) / spread
    for start in (0, 12):
        found = torch.cat([x for x, _ in seen[start : start + 12]])
        order = torch.cdist(found, normal).argmin(1)
        assert sorted(order.tolist()) == list(range(WORDS))
        assert torch.allclose(found, normal[order], atol=1e-4)
        # Neighbours in a batch do not come from one text.
        assert (order.diff().abs() > 25).float().mean() > 0.9


def test_it_is_the_same_for_the_same_seed_only(planted):
    _, _, model, texts = planted
    a, b = (st.train_sae(model, texts, SITE, QUICK) for _ in range(2))
    assert _same(a, b)
    torch.manual_seed(9)
    assert _same(a, st.train_sae(model, texts, SITE, QUICK))
    assert not _same(a, st.train_sae(model, texts, SITE, replace(QUICK, seed=1)))
    start, other = (Learner(D, replace(QUICK, seed=seed)).parameters["encoder"] for seed in (0, 1))
    assert not torch.allclose(start, other)
    smaller = st.train_sae(model, texts, SITE, QUICK, batch_size=5)
    assert torch.allclose(smaller.decoder, a.decoder, atol=1e-3)


# --- one step


def _learner(activation, n=12, **changes):
    plan = st.SAEPlan(n=n, k=3, activation=activation, l1=0.7, lr=1e-2, dead_after=100, **changes)
    learner = Learner(D, plan)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in learner.parameters.items():
            if name != "decoder":
                p += 0.3 * torch.randn(p.shape, generator=random)
        learner.parameters["bias"][0] -= 99  # never fires
    return learner


X = torch.randn(64, D, generator=torch.Generator().manual_seed(6))


def _loss(p, plan, dead, progress):
    """The loss as the chapter writes it, and the number of open latents per row."""
    inputs = X @ p["encoder"] + p["bias"]
    if plan.activation == "topk":
        kept = torch.zeros_like(inputs).scatter(1, inputs.topk(plan.k, dim=1).indices, 1.0)
        z, penalty = inputs.clamp(min=0) * kept, 0.0
    else:
        theta = 0.0 if plan.activation == "relu" else p["log_threshold"].detach().exp()
        z = inputs * (inputs > theta)
        penalty = plan.l1 * z.sum(1).mean()
        if plan.activation == "jumprelu":
            penalty = sae_learner._WEIGHT * ((z > 0).float().sum(1).mean() / plan.k - 1) ** 2
    left = X - z @ p["decoder"] - p["offset"]
    whole = left.square().sum(1).mean()
    errors = [
        (X - z[:, :size] @ p["decoder"][:size] - p["offset"]).square().sum(1).mean()
        for size in plan.nested
    ]
    loss = sum([*errors, whole]) / (len(errors) + 1)
    loss = loss + min(1.0, (progress + 1e-3) / sae_learner._WARM) * penalty
    if len(dead) and plan.activation != "relu":
        largest = inputs[:, dead].clamp(min=0).sort(dim=1, descending=True)
        k = min(D // 2, len(dead))
        cut = largest.values[:, k - 1 : k]
        alone = inputs[:, dead].clamp(min=0) * (inputs[:, dead] >= cut)
        rebuilt = alone @ p["decoder"][dead]
        loss = loss + sae_learner._AUX * (rebuilt - left.detach()).square().sum(1).mean()
    return loss, left.square().sum(1).mean(), z


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dead", [[], [1, 4, 5, 11], list(range(10))], ids=["0", "4", "10"])
@pytest.mark.parametrize(("progress", "nested"), [(0.0, ()), (0.5, ()), (0.5, (2, 7))])
def test_the_gradient_of_a_step_is_that_of_the_loss(activation, dead, progress, nested):
    learner = _learner(activation, nested=nested)
    learner._renew = lambda *_: None  # it comes after the step
    learner.silent[dead] = 101
    learner.silent[[2, 3]] = torch.where(learner.silent[[2, 3]] > 0, 101.0, 100.0)
    p = {name: v.detach().clone().requires_grad_() for name, v in learner.parameters.items()}
    loss, error, z = _loss(p, learner.plan, torch.tensor(dead, dtype=torch.long), progress)
    loss.backward()
    before = learner.silent.clone()
    assert learner.step(X, progress) == pytest.approx(error.item(), rel=1e-5)
    for name in ("encoder", "bias", "offset"):
        found = learner.parameters[name].grad
        assert torch.allclose(found, p[name].grad, atol=1e-5), name
        assert found.any()
    # The decoder's rows may only turn.
    raw, rows = p["decoder"].grad, p["decoder"].detach()
    turned = raw - (raw * rows).sum(1, keepdim=True) * rows
    assert torch.allclose(learner.parameters["decoder"].grad, turned, atol=1e-5)
    assert torch.allclose(learner.parameters["decoder"].norm(dim=1), torch.ones(12), atol=1e-6)
    assert not torch.allclose(learner.parameters["decoder"], rows, atol=1e-4)
    fired = (z > 0).any(0)
    assert fired.sum() == 11
    assert torch.equal(learner.silent, torch.where(fired, 0.0, before + 64))


def test_the_gradient_of_a_threshold_is_that_of_a_rectangle():
    random = torch.Generator().manual_seed(7)
    x = torch.randn(200, 5, generator=random).mul(1.5).requires_grad_()
    theta = (0.4 + torch.rand(5, generator=random)).requires_grad_()
    z, is_open = sae_learner._Jump.apply(x, theta)
    assert torch.equal(z, torch.where(x > theta, x, 0.0))
    assert torch.equal(is_open, (x > theta).float())
    for_z, for_open = (torch.randn(200, 5, generator=random) for _ in range(2))
    ((for_z * z).sum() + (for_open * is_open).sum()).backward()
    width, expected = sae_learner._BANDWIDTH, [0.0] * 5
    for row in range(200):
        for f in range(5):
            # The derivative of each is -theta, or -1, times a density 1 / width around theta.
            if abs(x[row, f].item() - theta[f].item()) < width / 2:
                pull = theta[f].item() * for_z[row, f].item() + for_open[row, f].item()
                expected[f] -= pull / width
    assert theta.grad.tolist() == pytest.approx(expected, rel=1e-4)
    assert torch.equal(x.grad, for_z * (x > theta))


def test_the_gradient_of_how_many_are_open_is_their_difference_across_the_rectangle():
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(8))
    theta, half = torch.tensor([0.3, 0.8, 1.5]), sae_learner._BANDWIDTH / 2
    learned = theta.clone().requires_grad_()
    sae_learner._Jump.apply(x, learned)[1].sum().backward()
    more, fewer = (x > theta - half).sum(0), (x > theta + half).sum(0)
    assert torch.allclose(learned.grad, (fewer - more) / (2 * half), atol=1.5)


def test_thresholds_move_until_as_many_are_open_as_wanted():
    learner = _learner("jumprelu", n=40)
    start = learner.parameters["log_threshold"].detach().clone()
    for number in range(200):
        learner.step(X, 0.05 + number / 500)
    x = X @ learner.parameters["encoder"] + learner.parameters["bias"]
    count = (x > learner.parameters["log_threshold"].exp()).float().sum(1).mean().item()
    assert count == pytest.approx(3, rel=0.15)
    assert (learner.parameters["log_threshold"] - start)[1:].abs().min() > 1e-3


def test_the_learning_rate_rises_stays_and_falls():
    learner = _learner("jumprelu")
    for progress, share in ((0.0, 0.02), (0.024, 0.5), (0.1, 1.0), (0.5, 1.0), (0.75, 0.5)):
        learner.step(X, progress)
        slow, fast = (learner.optimizer.param_groups[n]["lr"] for n in (0, 4))
        assert slow == pytest.approx(0.01 * share)
        assert fast == pytest.approx(sae_learner._FAST * slow)


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_dead_latents_come_back_where_there_is_something_left_to_explain(monkeypatch, activation):
    true, rows = _plant(1)
    x = rows - rows.mean(0)
    x = x / x.square().mean().sqrt()

    def dead():
        """Half of the latents start so low that the others always win: how many never fire?"""
        plan = st.SAEPlan(n=32, k=2, activation=activation, lr=1e-2, dead_after=1000)
        learner, random = Learner(D, plan), torch.Generator().manual_seed(0)
        with torch.no_grad():
            learner.parameters["encoder"][:, 16:] *= 0.02
        for step in range(300):
            learner.step(x[torch.randint(len(x), (128,), generator=random)], step / 300)
        sae = learner.sae(SITE, torch.zeros(D), 1.0, ORIGIN)
        return int((sae.encode(x) == 0).all(0).sum()), _likeness(true, sae.decoder).mean()

    with_it, likeness = dead()
    monkeypatch.setattr(sae_learner, "_AUX", 0.0)
    without, less = dead()
    assert with_it + 5 < without
    assert likeness > less + 0.07


def test_dead_features_of_a_relu_start_anew():
    """Half of them start so low that they never fire: their gradient is 0."""
    true, rows = _plant(1)
    x = rows - rows.mean(0)
    x = x / x.square().mean().sqrt()

    def dead(after):
        plan = st.SAEPlan(n=32, activation="relu", l1=0.3, lr=1e-2, dead_after=after)
        learner, random = Learner(D, plan), torch.Generator().manual_seed(0)
        with torch.no_grad():
            learner.parameters["bias"][16:] = -99.0
        for step in range(300):
            learner.step(x[torch.randint(len(x), (128,), generator=random)], step / 300)
        sae = learner.sae(SITE, torch.zeros(D), 1.0, ORIGIN)
        return int((sae.encode(x) == 0).all(0).sum()), _likeness(true, sae.decoder).mean()

    with_it, likeness = dead(1000)
    without, less = dead(10**6)
    assert without == 16
    assert with_it < 4
    assert likeness > less + 0.07


def test_a_new_start_lies_along_what_is_rebuilt_badly():
    learner = _learner("relu")
    learner.step(X, 0.1)  # now Adam has moments
    dead, old = [1, 5], {k: v.detach().clone() for k, v in learner.parameters.items()}
    learner.silent[dead] = 101
    left = torch.zeros_like(X)
    left[9], left[30] = 1.0, 1.0  # only these two are rebuilt badly
    learner._renew(X, left, 0.2)
    p = {name: value.detach() for name, value in learner.parameters.items()}
    rows = torch.nn.functional.normalize(X[[9, 30]] - p["offset"], dim=1)
    cosines = p["decoder"][dead] @ rows.T
    assert torch.allclose(cosines.amax(1), torch.ones(2), atol=1e-6)
    assert cosines.argmax(1).unique().numel() == 2
    living = [f for f in range(12) if f not in dead]
    length = 0.2 * old["encoder"][:, living].norm(dim=0).mean()
    assert torch.allclose(p["encoder"][:, dead], length * p["decoder"][dead].T, atol=1e-6)
    assert not p["bias"][dead].any()
    for name, axis in (("encoder", 1), ("decoder", 0), ("bias", 0)):
        kept = torch.tensor(living)
        assert torch.equal(p[name].index_select(axis, kept), old[name].index_select(axis, kept))
        for moment in ("exp_avg", "exp_avg_sq"):
            state = learner.optimizer.state[learner.parameters[name]][moment]
            assert not state.index_select(axis, torch.tensor(dead)).any()
            assert state.index_select(axis, kept).any()
    assert learner.silent[dead].tolist() == [0, 0]


def test_a_new_start_needs_no_error_and_waits_for_a_finite_one():
    """More dead ones than rows with an error; then one that is not a number."""
    learner = _learner("relu")
    learner.step(X, 0.1)
    learner.silent[:5] = 101
    left = torch.zeros_like(X)
    left[9] = 1.0
    learner._renew(X, left, 0.2)
    assert learner.silent[:5].tolist() == [0] * 5
    learner.silent[:5] = 101
    left[9, 0] = float("nan")
    learner._renew(X, left, 0.2)
    assert learner.silent[:5].tolist() == [101] * 5


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_other_features_are_not_started_anew(activation):
    learner = _learner(activation)
    learner.silent[:] = 101
    for progress in (0.1, 0.2):
        before = learner.parameters["decoder"].detach().clone()
        learner.step(X, progress)
        moved = (learner.parameters["decoder"] * before).sum(1)
        assert moved.min() > 0.9


def test_a_relu_is_not_started_anew_once_the_rate_falls():
    for progress, renewed in ((0.4, True), (0.6, False)):
        learner = _learner("relu")
        learner.silent[0] = 101  # the one that never fires
        before = learner.parameters["decoder"].detach()[0].clone()
        learner.step(X, progress)
        assert (learner.parameters["decoder"][0] @ before < 0.9) == renewed
        assert (learner.silent[0] == 0) == renewed


def test_nested_latents_keep_the_general_ones_whole():
    """Four parents, one in each row, and sixteen children, each below one parent, in 6 of 10 rows.

    A price on values makes a child swallow its parent; the first four alone then miss the parent.
    """
    random = torch.Generator().manual_seed(3)
    true = torch.linalg.qr(torch.randn(D, 20, generator=random))[0].T
    parents = torch.randint(4, (WORDS,), generator=random)
    children = 4 + 4 * parents + torch.randint(4, (WORDS,), generator=random)
    has_child = (torch.rand(WORDS, generator=random) < 0.6)[:, None]
    x = 3 * (true[parents] + has_child * true[children])
    below = has_child[:, 0]

    def found(nested):
        plan = st.SAEPlan(n=20, activation="relu", l1=0.5, lr=1e-2, nested=nested)
        learner = Learner(D, plan)
        for step in range(600):
            learner.step(x[torch.randint(WORDS, (128,), generator=random)], step / 600)
        is_open = learner.sae(SITE, torch.zeros(D), 1.0, ORIGIN).encode(x) > 0
        # For each parent the one of the first four that is open most often with it, and a child.
        shares = [is_open[below & (parents == n), :4].float().mean(0).max() for n in range(4)]
        return torch.stack(shares).min(), is_open.float().sum(1).mean()

    whole, as_many = found((4,))
    assert whole > 0.99
    swallowed, fewer = found(())
    assert swallowed < 0.5
    assert fewer + 0.1 < as_many  # nothing is saved by holes


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_centre_and_scale_are_folded_in(activation):
    learner, centre, scale = _learner(activation), torch.arange(D) - 4.0, 3.7
    for _ in range(5):
        learner.step(X, 0.5)
    sae = learner.sae(SITE, centre, scale, ORIGIN)
    p = {name: v.detach() for name, v in learner.parameters.items()}
    theta = p["log_threshold"].exp() if activation == "jumprelu" else torch.zeros(12)
    z = sparse(X @ p["encoder"] + p["bias"], theta, 3 if activation == "topk" else 0)
    h = scale * X + centre
    assert torch.allclose(sae.encode(h), scale * z, atol=1e-4)
    rebuilt = scale * (z @ p["decoder"] + p["offset"]) + centre
    assert torch.allclose(sae.decode(sae.encode(h)), rebuilt, atol=1e-4)
    assert torch.equal(sae.decoder, p["decoder"])
    assert (sae.k, sae.origin) == (3 if activation == "topk" else None, ORIGIN)
    # Later steps do not reach into an SAE that was made before.
    before = sae.encode(h)
    learner.step(X, 0.5)
    assert torch.equal(sae.encode(h), before)


# --- checkpoints


class KilledError(Exception):
    """Stands for the end of a process."""


def _kill_at(monkeypatch, owner, name, call):
    """Let the call-th call of a method raise."""
    inner, calls = getattr(owner, name), []

    def method(self, *args):
        calls.append(args)
        if len(calls) == call:
            raise KilledError
        return inner(self, *args)

    monkeypatch.setattr(owner, name, method)
    return calls


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("owner", "name", "call"), [(sae_training._Reader, "rows", 3), (Learner, "step", 11)]
)
def test_a_killed_run_goes_on_to_the_same_result(
    planted, tmp_path, monkeypatch, activation, owner, name, call
):
    _, _, model, texts = planted
    plan, path = replace(QUICK, activation=activation, dead_after=300), tmp_path / "run" / "c"
    whole = st.train_sae(model, texts, SITE, plan)
    with monkeypatch.context() as patch:
        _kill_at(patch, owner, name, call)
        with pytest.raises(KilledError):
            st.train_sae(model, texts, SITE, plan, checkpoint=path)
    assert [file.name for file in path.parent.iterdir()] == ["c"]
    with monkeypatch.context() as patch:
        read = _kill_at(patch, sae_training._Reader, "rows", 99)
        resumed = st.train_sae(model, texts, SITE, plan, checkpoint=path)
        assert len(read) == 4  # of 6: two chunks were done
    assert _same(whole, resumed)
    with monkeypatch.context() as patch:
        read = _kill_at(patch, sae_training._Reader, "rows", 1)
        assert _same(whole, st.train_sae(model, texts, SITE, plan, checkpoint=path))
        assert not read


def test_a_checkpoint_of_another_run_is_refused(planted, tmp_path):
    _, rows, model, texts = planted
    path, plan = tmp_path / "c.safetensors", replace(QUICK, epochs=1, chunk=60)
    st.train_sae(model, texts, SITE, plan, checkpoint=path)
    others = [
        (model, texts, SITE, replace(plan, lr=2e-2)),
        (model, texts, SITE, replace(plan, nested=(8,))),
        (model, texts, SITE, replace(plan, seed=1)),
        (model, texts[::-1], SITE, plan),
        (model, texts[:-1], SITE, plan),
        (model, texts, st.resid(0), plan),
        (planted_model(2 * rows), texts, SITE, plan),
    ]
    for other in others:
        with pytest.raises(ValueError, match=r"c\.safetensors belongs to another fit"):
            st.train_sae(*other, checkpoint=path)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.ones(2)}, foreign)
    with pytest.raises(ValueError, match="belongs to another fit"):
        st.train_sae(model, texts, SITE, plan, checkpoint=foreign)


# --- bad input


@pytest.mark.parametrize("name", ["n", "k", "l1", "epochs", "batch_size", "lr", "chunk"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_numbers_of_a_plan_are_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} is positive, got {value}"):
        st.SAEPlan(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dead_after": 0}, "dead_after is positive, got 0"),
        ({"activation": "gelu"}, "topk, jumprelu or relu, got 'gelu'"),
        ({"n": 8, "k": 9}, "k is at most n = 8, got 9"),
        ({"n": 8, "k": 2, "nested": (4, 2)}, r"end below n = 8, got \(4, 2\)"),
        ({"n": 8, "k": 2, "nested": (4, 8)}, r"end below n = 8, got \(4, 8\)"),
        ({"n": 8, "k": 2, "nested": (0, 4)}, r"rise from 1 and end below n = 8, got \(0, 4\)"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        st.SAEPlan(**changes)
    assert st.SAEPlan(n=8, k=8).k == 8


@pytest.mark.parametrize("texts", ["w1 w2", "", [], ()])
def test_texts_are_a_list_of_some(planted, texts):
    with pytest.raises(ValueError, match="needed is a list of texts, got"):
        st.train_sae(planted[2], texts, SITE, QUICK)


def test_a_text_without_words_is_named(planted):
    with pytest.raises(ValueError, match="match no token of text 1"):
        st.train_sae(planted[2], ["w1 w2", ""], SITE, replace(QUICK, seed=0, chunk=9))


@pytest.mark.parametrize("site", [st.resid(1), "blocks.7.hook_mlp_out"])
def test_a_site_that_the_model_has_not_is_refused(planted, site):
    with pytest.raises(ValueError, match=r"has 1 layers \(0 to 0\), got blocks"):
        st.train_sae(planted[2], ["w1 w2"], site, QUICK)


@pytest.mark.parametrize("value", [1.0, 0.1, -37.3])
def test_activations_that_are_all_the_same_are_refused(value):
    model = planted_model(torch.full((50, 8), value))
    with pytest.raises(
        ValueError, match=r"all activations at blocks\.0\.hook_resid_pre are the sa"
    ):
        st.train_sae(model, _texts(50), SITE, QUICK)


def test_a_run_that_diverges_says_so(planted, tmp_path):
    path = tmp_path / "c"
    with pytest.raises(FloatingPointError, match=r"in chunk 0; lower lr=1e\+30"):
        st.train_sae(planted[2], planted[3], SITE, replace(QUICK, lr=1e30), checkpoint=path)
    assert not path.exists()
