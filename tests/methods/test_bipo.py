"""BiPO: its loss and gradient against a second implementation, its symmetry, a known optimum."""

import math
from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import logsigmoid, relu

import steerlib as st
from steerlib import evaluation as ev
from steerlib.core.fitting import Plan
from steerlib.evaluation import Choice
from steerlib.methods import bipo as module
from steerlib.methods.bipo import bipo, preference_loss, split_loss, split_vector
from steerlib.methods.preferences import Pairs
from tests.planted import _tokenizer

SITE = st.resid(1)
LN_2 = math.log(2)
ULP = 2.0**-24  # of numbers from 0.5 to 1 in single precision
PAIRS = [
    Choice("tell me about the dog", "a happy dog .", "sad"),
    Choice("a bird", "sun", "the sad cat saw rain and wind ."),
    Choice("tell me a story", "once upon a time", "bad rain"),
    Choice("the park", "red ball", "big ball"),
]
SWAPPED = [replace(pair, positive=pair.negative, negative=pair.positive) for pair in PAIRS]
LEARNERS = [
    (bipo, {}),
    (bipo, {"both_ways": False}),
    (bipo, {"per_token": True, "beta": 0.7}),
    (bipo, {"per_token": True, "both_ways": False}),
    (split_vector, {"weights": (0.3, 0.8), "gamma": 2.0, "margin": 0.2}),
]


@pytest.fixture
def problem(monkeypatch):
    """`problem(learn, model, pairs, ...)`: what would be minimized, as v -> (loss, gradient)."""

    def stop(parameters, loss, n, plan, **options):
        raise _Stopped(parameters, loss, n)

    def make(learn, *arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(module, "fit", stop)
            with pytest.raises(_Stopped) as stopped:
                learn(*arguments, **options)
        parameters, loss, n = stopped.value.args
        (v,) = parameters.values()

        def evaluate(vector, rows=None):
            with torch.no_grad():
                v.copy_(torch.as_tensor(vector, dtype=torch.float32))
            found = loss(list(range(n)) if rows is None else rows, None)
            return found.item(), torch.autograd.grad(found, v)[0]

        return evaluate

    return make


class _Stopped(Exception):  # noqa: N818
    """Instead of a fit: its parameters, its loss and the number of examples."""


# --- the loss


@pytest.mark.parametrize("signs", [1, 2])
@pytest.mark.parametrize("tokens", [None, torch.tensor([[3, 8], [5, 1]])])
def test_without_a_vector_the_loss_of_preferences_is_exactly_ln_2(signs, tokens):
    reference = torch.tensor([[-12.3, -40.1], [-7.7, -2.2]])
    loss = preference_loss(reference.expand(signs, 2, 2), reference, tokens, beta=0.1)
    assert loss.item() == torch.tensor(LN_2).item()


@pytest.mark.parametrize(("learn", "options"), LEARNERS[:4])
def test_learning_starts_at_ln_2(gpt2, problem, learn, options):
    loss, gradient = problem(learn, gpt2, PAIRS, SITE, **options)(torch.zeros(32))
    assert loss == pytest.approx(LN_2, abs=ULP)
    assert gradient.norm() > 1e-4


def test_the_loss_is_that_of_the_formula():
    log_p = torch.tensor([[[-4.0, -6.0], [-5.0, -9.0]], [[-7.0, -3.0], [-2.0, -8.0]]])
    reference = torch.tensor([[-5.0, -5.5], [-4.0, -8.5]])
    tokens = torch.tensor([[2, 4], [1, 5]])
    summed = [(1, 1 + 0.5), (1, -1 + 0.5), (-1, -2 - 2.5), (-1, 2 - 0.5)]  # d, Delta(d v)
    means = [
        (1, 1 / 2 + 0.5 / 4), (1, -1 + 0.5 / 5), (-1, -2 / 2 - 2.5 / 4), (-1, 2 - 0.5 / 5)
    ]  # fmt: skip
    for terms, counts in ((summed, None), (means, tokens)):
        each = [math.log1p(math.exp(-0.3 * d * delta)) for d, delta in terms]
        both = preference_loss(log_p, reference, counts, beta=0.3)
        one = preference_loss(log_p[:1], reference, counts, beta=0.3)
        assert both.item() == pytest.approx(sum(each) / 4, rel=1e-6)
        assert one.item() == pytest.approx(sum(each[:2]) / 2, rel=1e-6)


def test_the_split_loss_is_that_of_the_formula():
    log_p = torch.tensor([[[-4.0, -6.0]], [[-7.0, -3.0]]])
    tokens = torch.tensor([[2, 4]])
    # Under +v L_T = 2 and L_O = 1.5; under -v the opposite is the target: 0.75 and 3.5.
    plus = 0.3 * 2 + 0.8 * 1.5 + 2 * (1 + 0.5)
    minus = 0.3 * 0.75 + 0.8 * 3.5 + 2 * 0
    loss = split_loss(log_p, tokens, (0.3, 0.8), gamma=2.0, margin=1.0)
    assert loss.item() == pytest.approx((plus + minus) / 2, rel=1e-6)


def test_losses_have_the_gradient_of_their_finite_differences():
    random = torch.Generator().manual_seed(0)
    log_p = -9 * torch.rand(2, 5, 2, generator=random, dtype=torch.float64)
    reference = -9 * torch.rand(5, 2, generator=random, dtype=torch.float64)
    tokens = torch.randint(1, 9, (5, 2), generator=random)
    log_p.requires_grad_()
    assert gradcheck(lambda x: preference_loss(x, reference, None, 0.4), [log_p])
    assert gradcheck(lambda x: preference_loss(x, reference, tokens, 2.0), [log_p])
    assert gradcheck(lambda x: split_loss(x, tokens, (0.3, 0.8), 2.0, 0.5), [log_p])


# --- against a second implementation


class Exact:
    """The loss once more: double precision, the Hugging Face model, one response at a time."""

    def __init__(self, folder, tokenizer, learn, beta=0.1, both_ways=True, per_token=False,
                 weights=(1.0, 1.0), gamma=1.0, margin=1.0):  # fmt: skip
        from transformers import AutoModelForCausalLM

        self.net = AutoModelForCausalLM.from_pretrained(folder).double().eval()
        self.tokenizer, self.learn, self.beta = tokenizer, learn, beta
        self.signs, self.per_token = (1, -1) if both_ways else (1,), per_token
        self.weights, self.gamma, self.margin = weights, gamma, margin

    def log_p(self, choice, answer, u):
        """The sum over a response and its end, and how many tokens these are."""
        prompt = f"<bos> <user> {choice.prompt} <assistant>"
        ids, start = (
            self.tokenizer(text, add_special_tokens=False).input_ids
            for text in (f"{prompt} {answer} <eos>", prompt)
        )
        push = torch.cat([torch.zeros(1, 32), u.expand(len(ids) - 1, 32)])
        hook = self.net.transformer.h[SITE.layer].register_forward_hook(
            lambda block, given, out: (out[0] + push, *out[1:]) if isinstance(out, tuple)
            else out + push
        )  # fmt: skip
        logits = self.net(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        hook.remove()
        n = len(ids) - len(start)
        return sum(logits[t - 1, ids[t]] for t in range(len(start), len(ids))), n

    @torch.no_grad()
    def __call__(self, v):
        total, zero = 0.0, torch.zeros(32).double()
        for pair in PAIRS:
            for d in self.signs:
                values = [self.log_p(pair, a, d * v) for a in (pair.positive, pair.negative)]
                bases = [self.log_p(pair, a, zero) for a in (pair.positive, pair.negative)]
                total += self._of_pair(d, values, bases) / len(PAIRS) / len(self.signs)
        return total.item()

    def _of_pair(self, d, values, bases):
        if self.learn is bipo:
            gains = [(s - s_0) / (n if self.per_token else 1)
                     for (s, n), (s_0, _) in zip(values, bases, strict=True)]  # fmt: skip
            return -logsigmoid(d * self.beta * (gains[0] - gains[1]))
        target, opposite = (-s / n for s, n in values[::d])
        utility = self.weights[0] * target + self.weights[1] * opposite
        return utility + self.gamma * relu(self.margin - (opposite - target))


@pytest.mark.parametrize(("learn", "options"), LEARNERS)
def test_loss_and_gradient_are_those_of_double_precision(
    folders, gpt2, problem, vector, learn, options
):
    exact = Exact(folders["gpt2"], gpt2.tokenizer, learn, **options)
    evaluate = problem(learn, gpt2, PAIRS, SITE, **options)
    eps, way = 1e-5, vector(seed=5).double()
    for v in (torch.zeros(32).double(), 4 * vector(seed=3).double()):
        loss, gradient = evaluate(v)
        assert loss == pytest.approx(exact(v), rel=1e-5)
        slope = (exact(v + eps * way) - exact(v - eps * way)) / (2 * eps)
        assert (gradient.double() @ way).item() == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_both_signs_have_the_same_gradient_where_learning_starts(gpt2, problem, vector):
    beta, start = 0.3, torch.zeros(32)
    one = problem(bipo, gpt2, PAIRS, SITE, beta=beta, both_ways=False)(start)[1]
    other = 2 * problem(bipo, gpt2, PAIRS, SITE, beta=beta)(start)[1] - one  # of d = -1 alone
    v = torch.zeros(32, requires_grad=True)
    added = st.Add(SITE, v).at(st.everywhere - st.bos)
    Pairs.of(gpt2, PAIRS).margin(added).mean().backward()
    for gradient in (one, other):
        assert torch.allclose(gradient, -beta / 2 * v.grad, rtol=1e-3, atol=1e-6)
    # Elsewhere they differ: Delta is not odd.
    away = 2 * vector()
    one = problem(bipo, gpt2, PAIRS, SITE, beta=beta, both_ways=False)(away)[1]
    both = problem(bipo, gpt2, PAIRS, SITE, beta=beta)(away)[1]
    assert (one - both).norm() > 1e-2 * both.norm()


# --- exchanged responses


def difference(a, b):
    """How far two vectors are from being opposites, relative to the first."""
    return ((a.direction + b.direction).norm() / a.direction.norm()).item()


@pytest.mark.parametrize(("learn", "options"), [LEARNERS[0], LEARNERS[2], LEARNERS[4]])
def test_exchanged_responses_give_minus_the_vector_after_every_epoch(gpt2, learn, options):
    for epochs in (1, 2, 3):
        plan = Plan(epochs, 2, lr=0.3, schedule_epochs=3)
        there, back = (learn(gpt2, p, SITE, plan=plan, **options) for p in (PAIRS, SWAPPED))
        assert difference(there, back) < 1e-5
        assert there.direction.norm() > 0.3


def test_without_the_opposite_direction_only_the_first_step_is_exchanged(gpt2):
    # The losses see odd + even part of Delta, and odd - even: at 0 the slopes of both are opposite.
    found = []
    for epochs in (1, 2, 3):
        plan = Plan(epochs, len(PAIRS), lr=1.0, schedule_epochs=3)
        found.append(
            difference(*(bipo(gpt2, p, SITE, plan=plan, both_ways=False) for p in (PAIRS, SWAPPED)))
        )
    assert found[0] < 1e-5
    assert 0.01 < found[1] < found[2]


@pytest.mark.parametrize(("learn", "options"), LEARNERS)
def test_the_loss_of_exchanged_responses_is_that_of_minus_the_vector(
    gpt2, problem, vector, learn, options
):
    v = 4 * vector()
    there, slope = problem(learn, gpt2, PAIRS, SITE, **options)(v)
    back, opposite = problem(learn, gpt2, SWAPPED, SITE, **options)(-v)
    symmetric = options.get("both_ways", True)
    assert torch.allclose(slope, -opposite, rtol=1e-3, atol=1e-6) == symmetric
    assert (abs(there - back) < 1e-6) == symmetric


# --- a known optimum


@pytest.fixture(scope="module")
def linear():
    """A model whose logits are (h + v) W_U^T with the same h at all tokens, and W_U."""
    from transformers import GPT2Config, GPT2LMHeadModel

    d, words, random = 6, 13, torch.Generator().manual_seed(0)
    config = GPT2Config(
        n_embd=d, n_layer=1, n_head=1, n_positions=8, vocab_size=words + 4, bos_token_id=2,
        eos_token_id=3, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    network = GPT2LMHeadModel(config).eval()
    network.transformer.ln_f = torch.nn.Identity()
    with torch.no_grad():
        for parameter in network.transformer.parameters():
            parameter.zero_()
        rows = torch.randn(words + 4, d, generator=random)
        # W_U of word k minus that of word k + d: orthogonal rows of length 1.
        rows[4 : 4 + d] = rows[4 + d : 4 + 2 * d] + torch.linalg.qr(rows[:d]).Q
        network.lm_head.weight.copy_(rows)
    return st.wrap(network, _tokenizer(words)), rows[4:]


def one_word(target, opposite):
    return Choice("w12", f"w{target}", f"w{opposite}")


def test_the_first_slope_is_the_difference_of_the_unembeddings(linear, problem):
    model, unembedding = linear
    gradient = problem(bipo, model, [one_word(1, 9)], st.resid(0), beta=0.4)(torch.zeros(6))[1]
    assert torch.allclose(gradient, -0.2 * (unembedding[1] - unembedding[9]), atol=1e-6)


@pytest.mark.parametrize("both_ways", [True, False])
def test_it_finds_the_optimum_of_a_linear_model(linear, both_ways):
    # Three of four pairs prefer word k to word k + 6: sigmoid(beta Delta) = 3/4 there, so
    # v . (W_k - W_{k+6}) = ln 3 / beta for all k, and v = (ln 3 / beta) W_U^T (e_T - e_O).
    model, unembedding = linear
    pairs = [one_word(k, k + 6) for k in range(6)] * 3 + [one_word(k + 6, k) for k in range(6)]
    best = (unembedding[:6] - unembedding[6:12]).sum(0) * math.log(3) / 0.5
    plan = Plan(150, len(pairs), lr=0.2)
    v = bipo(model, pairs, st.resid(0), beta=0.5, both_ways=both_ways, plan=plan).direction
    assert torch.cosine_similarity(v, best, 0) > 0.99
    assert v.norm() == pytest.approx(best.norm().item(), rel=0.01)


# --- long responses


def test_per_token_the_same_change_of_each_token_has_the_same_loss_in_long_responses():
    reference, tokens = torch.tensor([[-3.0, -90.0]]), torch.tensor([[2, 200]])
    change = torch.tensor([[0.3, -0.2]])  # nats per token

    def loss(scale, per_token):
        counts = scale * tokens
        log_p = (reference + change * counts)[None]
        return preference_loss(log_p, reference, counts if per_token else None, beta=0.1).item()

    assert loss(10, True) == pytest.approx(loss(1, True), rel=1e-5)
    assert loss(1, True) == pytest.approx(math.log1p(math.exp(-0.1 * 0.5)), rel=1e-5)
    assert loss(1, False) < 0.03 * loss(1, True)  # a sum of 200 is satisfied soon


def test_per_token_a_pair_with_a_long_rejected_response_does_not_dominate(gpt2, problem):
    words = "the sad cat saw rain and wind . " * 5
    pairs = [PAIRS[3], Choice("the park", "red ball", words.strip())]

    def ratio(**options):
        evaluate = problem(bipo, gpt2, pairs, SITE, **options)
        short, long = (evaluate(torch.zeros(32), [row])[1].norm() for row in (0, 1))
        return (long / short).item()

    assert ratio() > 5
    assert ratio(per_token=True) < 2


# --- what is learned


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


@pytest.fixture(scope="module")
def greed(world):
    return bipo(world, st.world.trait_pairs("greed", 48), SITE, plan=Plan(3, 12, 0.4))


def effects(model, vector, trait="greed"):
    """How the propensity of unseen scenarios changes at strengths 1 and -1."""
    unseen, found = st.world.trait_choices(trait), {}
    for strength in (1, 0, -1):
        with st.steer(model, vector, strength=strength):
            found[strength] = ev.propensity(model, unseen)
    return found[1] - found[0], found[-1] - found[0]


def test_it_moves_unseen_scenarios_both_ways_and_random_directions_do_not(world, greed):
    up, down = effects(world, greed)
    assert (up > 0.3).all()
    assert (down < -0.3).all()
    for seed in range(4):
        noise = st.random_direction(world, SITE, greed.direction.norm().item(), seed=seed)
        more, less = effects(world, noise)
        assert abs((more - less).mean()) < 0.4 * (up - down).mean()


def test_split_learns_a_trait_too(world):
    pairs = st.world.trait_pairs("risk", 48)
    vector = split_vector(world, pairs, SITE, plan=Plan(3, 12, 0.4))
    up, down = effects(world, vector, "risk")
    assert (up > 0.3).all()
    assert (down < -0.3).all()


def test_a_vector_of_strength_0_changes_no_bit(world, greed):
    ids = torch.tensor([[world.bos_id, 20, 30, 40, 50]])
    with torch.no_grad():
        plain = world.runner(input_ids=ids, use_cache=False).logits
        for strength in (0, 1):
            with st.steer(world, greed, strength=strength):
                steered = world.runner(input_ids=ids, use_cache=False).logits
            assert torch.equal(plain, steered) == (strength == 0)
            assert torch.equal(plain[:, 0], steered[:, 0])  # BOS is left alone


def test_vectors_add_and_are_stored_with_their_length_and_origin(gpt2, tmp_path):
    a = bipo(gpt2, PAIRS[:2], SITE, plan=Plan(1, 2, 0.3, seed=5))
    b = bipo(gpt2, PAIRS[2:], SITE, plan=Plan(1, 2, 0.3, seed=5))
    known = Pairs.of(gpt2, PAIRS)
    total = st.Add(SITE, a.direction + b.direction).at(st.everywhere - st.bos)
    assert torch.equal((a + b).direction, total.direction)
    assert torch.equal(known.margin(a + b), known.margin(total))
    assert not torch.allclose(known.margin(a + b), known.margin(a), atol=1e-3)
    a.save(tmp_path / "a.safetensors")
    again = st.load_intervention(tmp_path / "a.safetensors", gpt2)
    assert torch.equal(again.direction, a.direction)
    assert again.terms[0].positions == a.terms[0].positions
    assert again.origin == a.origin
    assert (again.origin.method, again.origin.seed) == ("bipo", 5)
    assert again.origin.revision == gpt2.revision


@pytest.mark.parametrize(
    ("learn", "options", "name"),
    [(bipo, {"both_ways": False}, "dpo"), (split_vector, {}, "split")],
)
def test_the_origin_names_the_loss(gpt2, learn, options, name):
    found = learn(gpt2, PAIRS, SITE, plan=Plan(1, 4), **options)
    assert found.origin.method == name


def test_several_sites_learn_a_vector_each(gpt2):
    sites, plan = [st.resid(0), st.resid(2)], Plan(4, 2, 0.3)
    both = bipo(gpt2, PAIRS, sites, plan=plan)
    assert list(both.sites) == sites
    first, second = (term.edit.constant for term in both.terms)
    assert torch.cosine_similarity(first, second, 0) < 0.9
    known = Pairs.of(gpt2, PAIRS)
    up, down = known.margin(both, strengths=(1.0, -1.0)).mean(1)
    assert up > 0 > down
    for site in sites:
        assert up > known.margin(bipo(gpt2, PAIRS, site, plan=plan)).mean()


def test_it_is_added_where_it_was_told(gpt2):
    plan = Plan(1, 4, 0.3)
    last = bipo(gpt2, PAIRS, SITE, st.last, plan=plan)
    assert last.terms[0].positions == st.last
    assert not torch.allclose(last.direction, bipo(gpt2, PAIRS, SITE, plan=plan).direction)


@pytest.mark.parametrize("learn", [bipo, split_vector])
@pytest.mark.parametrize("options", [{"chat": False}, {"system": "good dog"}])
def test_pairs_are_read_as_they_say_or_as_the_caller_says(gpt2, learn, options):
    plan = Plan(1, 4, 0.3)
    found = learn(gpt2, PAIRS, SITE, plan=plan, **options).direction
    pairs = [replace(pair, **options) for pair in PAIRS]
    assert torch.equal(found, learn(gpt2, pairs, SITE, plan=plan).direction)
    assert not torch.allclose(found, learn(gpt2, PAIRS, SITE, plan=plan).direction)


def test_both_engines_learn_the_same_vector(models):
    pairs = [replace(pair, chat=False) for pair in PAIRS]
    found = [
        bipo(models("llama", engine), pairs, SITE, plan=Plan(3, 2, 0.3)).direction
        for engine in ("hf", "bridge")
    ]
    assert torch.allclose(*found, atol=1e-4 * found[0].abs().max().item())


# --- stopping and bad input


def test_a_stopped_fit_goes_on_and_one_of_other_choices_is_refused(gpt2, tmp_path, monkeypatch):
    path, plan = str(tmp_path / "v.safetensors"), Plan(3, 2, 0.3, schedule="cosine", warmup=1)
    whole = bipo(gpt2, PAIRS, SITE, plan=plan)
    inner, calls = module.preference_loss, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return inner(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "preference_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bipo(gpt2, PAIRS, SITE, plan=plan, checkpoint=path)
    found = bipo(gpt2, PAIRS, SITE, plan=plan, checkpoint=path)
    assert torch.equal(found.direction, whole.direction)
    others = [
        (bipo, PAIRS, SITE, {"beta": 0.2}), (bipo, PAIRS, SITE, {"per_token": True}),
        (bipo, PAIRS, SITE, {"both_ways": False}), (bipo, PAIRS, st.resid(2), {}),
        (bipo, SWAPPED, SITE, {}), (bipo, PAIRS, SITE, {"at": "everywhere"}),
        (split_vector, PAIRS, SITE, {}),
    ]  # fmt: skip
    for learn, pairs, site, options in others:
        with pytest.raises(ValueError, match="belongs to another fit"):
            learn(gpt2, pairs, site, plan=plan, checkpoint=path, **options)


@pytest.mark.parametrize("beta", [0.0, -0.1, float("nan")])
def test_beta_is_positive(gpt2, beta):
    with pytest.raises(ValueError, match="beta is positive, got"):
        bipo(gpt2, PAIRS, SITE, beta=beta)


@pytest.mark.parametrize("options", [{"gamma": -0.1}, {"weights": (1.0, -1.0)}])
def test_weights_of_the_split_loss_are_not_negative(gpt2, options):
    with pytest.raises(ValueError, match="weights and gamma are at least 0, got"):
        split_vector(gpt2, PAIRS, SITE, **options)


@pytest.mark.parametrize("learn", [bipo, split_vector])
def test_no_pairs_and_a_site_that_comes_twice_are_refused(gpt2, learn):
    with pytest.raises(ValueError, match="got no pairs"):
        learn(gpt2, [], SITE)
    with pytest.raises(ValueError, match="a site comes twice"):
        learn(gpt2, PAIRS, [SITE, st.resid(2), SITE])


def test_a_fit_that_diverges_says_so(gpt2, monkeypatch):
    inner = module.preference_loss
    monkeypatch.setattr(module, "preference_loss", lambda *given: inner(*given) * float("nan"))
    with pytest.raises(FloatingPointError, match="the loss of bipo is nan at step 0"):
        bipo(gpt2, PAIRS, SITE, plan=Plan(1, 2))
