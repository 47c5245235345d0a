"""Built-in ODE systems against known solutions, conservation laws and other solvers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.linalg import expm

from codes.data.systems import SYSTEMS, coupled_oscillators, lotka_volterra
from codes.data.systems import primordial_chemistry as chemistry
from codes.data.systems import primordial_cooling as cooling
from codes.data.systems.primordial_onezone import HELIUM, STOICHIOMETRY

CONFIGS = Path(__file__).parents[2] / "conf" / "dataset"
SPECIES = chemistry.SPECIES
# of e-, H, H+, H-, H2, H2+, He, He+, He++
HYDROGEN = np.array([0, 1, 1, 1, 2, 2, 0, 0, 0])
HELIUM_NUCLEI = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
CHARGE = np.array([-1, 0, 1, -1, 0, 1, 0, 1, 2])


def drawn(system, n, seed=0):
    states, parameters = system.draw(np.random.default_rng(seed), n)
    return list(zip(states, [None] * n if parameters is None else parameters, strict=True))


def solved(system, n, seed=0):
    """Trajectories ``[n, Q, T]``."""
    solutions = [system.solve(state, parameters) for state, parameters in drawn(system, n, seed)]
    assert all(solution.success for solution in solutions)
    return np.stack([solution.y for solution in solutions])


@pytest.mark.parametrize("name", SYSTEMS)
def test_definition_is_consistent(name):
    system = SYSTEMS[name]
    states, parameters = system.draw(np.random.default_rng(0), 50)
    assert system.name == name
    assert states.shape == (50, len(system.labels)) and np.isfinite(states).all()
    assert len(set(system.labels)) == len(system.labels)
    assert system.timesteps[0] >= 0 and (np.diff(system.timesteps) > 0).all()
    assert np.shape(system.rhs(states[0], None if parameters is None else parameters[0])) == states[0].shape
    assert len(np.unique(states, axis=0)) == 50


@pytest.mark.parametrize("name", SYSTEMS)
def test_config_names_the_system_and_its_logarithm_is_defined(name):
    config = OmegaConf.load(CONFIGS / f"{name}.yaml")
    assert config.name == config.generate.system == name
    if config.log10_transform and config.get("tolerance") is None:
        assert (solved(SYSTEMS[name], 5) > 0).all()


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("robertson", "Radau"),
        ("lotka_volterra", "DOP853"),
        ("lv_parametric", "DOP853"),
        ("coupled_oscillators", "DOP853"),
        ("brusselator", "DOP853"),
        ("primordial_onezone", "BDF"),
    ],
)
def test_another_solver_agrees(name, method):
    """Two methods agree far better than the 1e-3 or so that surrogates reach."""
    system = SYSTEMS[name]
    if name == "primordial_onezone":
        other, floor = replace(system, method=method, rtol=1e-9), 1e-16
    else:
        other, floor = replace(system, method=method, rtol=1e-11, atol=1e-15), 1e-3
    ours, theirs = solved(system, 3, seed=1), solved(other, 3, seed=1)
    if name != "coupled_oscillators":
        ours, theirs = np.maximum(ours, floor), np.maximum(theirs, floor)
        assert np.abs(np.log10(ours / theirs)).max() < 1e-5
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize(
    ("time", "reference"),
    [
        # Hairer & Wanner 1996, IV.1 and IV.10: t = 40; Test Set for IVP Solvers, problem ROBER: t = 1e11
        (40.0, [0.7158270687194, 9.185534764558e-6, 0.2841637457458]),
        (1e11, [0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050]),
        # SUNDIALS, example cvRoberts_dns: t = 0.4 (printed), 4e10 (its own check)
        (0.4, [9.8517e-01, 3.3864e-05, 1.4794e-02]),
        (4e10, [5.2083474251394888e-08, 2.0833390772616859e-13, 9.9999994791631752e-01]),
    ],
)
def test_robertson_reaches_published_values(time, reference):
    system = replace(SYSTEMS["robertson"], timesteps=np.array([time]), atol=(1e-16, 1e-20, 1e-16))
    error = np.abs(system.solve([1.0, 0.0, 0.0]).y[:, 0] / reference - 1)
    assert error.max() < (1e-4 if time == 0.4 else 1e-6)


def test_robertson_conserves_the_sum():
    total = solved(SYSTEMS["robertson"], 5).sum(axis=1)
    np.testing.assert_allclose(total, total[:, :1] * np.ones_like(total), rtol=1e-12)


@pytest.mark.parametrize("name", ["lotka_volterra", "lv_parametric"])
def test_lotka_volterra_invariant(name):
    lv, system = lotka_volterra, SYSTEMS[name]
    for state, parameters in drawn(system, 5):
        growth, predation, mortality = np.ones(3) if parameters is None else parameters
        rates = predation * lv.PREDATION
        predators_at_rest = np.linalg.solve(rates, growth * lv.GROWTH)
        prey_at_rest = np.linalg.solve(lv.CONVERSION * rates.T, mortality * lv.MORTALITY)
        prey, predators = np.split(system.solve(state, parameters).y, 2)
        invariant = lv.CONVERSION * (prey - prey_at_rest[:, None] * np.log(prey)).sum(axis=0)
        invariant += (predators - predators_at_rest[:, None] * np.log(predators)).sum(axis=0)
        np.testing.assert_allclose(invariant, np.full_like(invariant, invariant[0]), rtol=1e-8)


def test_parameters_of_one_are_the_fixed_rates():
    state, _ = drawn(SYSTEMS["lotka_volterra"], 1)[0]
    fixed, varied = SYSTEMS["lotka_volterra"].solve(state), SYSTEMS["lv_parametric"].solve(state, np.ones(3))
    np.testing.assert_array_equal(fixed.y, varied.y)


def test_oscillators_follow_the_matrix_exponential():
    system = SYSTEMS["coupled_oscillators"]
    for state, _ in drawn(system, 3):
        exact = np.stack([expm(coupled_oscillators.MATRIX * t) @ state for t in system.timesteps], axis=1)
        np.testing.assert_allclose(system.solve(state).y, exact, atol=1e-8)


def test_oscillators_have_the_textbook_frequencies():
    frequencies = np.sort(np.abs(np.linalg.eigvals(coupled_oscillators.MATRIX).imag))[::2]
    np.testing.assert_allclose(frequencies, 2 * np.sin(np.arange(1, 6) * np.pi / 12))


def test_brusselator_ends_on_one_cycle_around_an_unstable_fixed_point():
    system = SYSTEMS["brusselator"]
    np.testing.assert_allclose(system.rhs(np.array([1.0, 3.0])), 0.0)
    late = replace(system, timesteps=np.linspace(40, 60, 4001))
    starts = ([1.01, 3.0], [4.0, 5.0])  # just beside the fixed point and far outside
    peaks = [late.solve(start).y.max(axis=1) for start in starts]
    np.testing.assert_allclose(peaks[0], peaks[1], rtol=1e-5)
    assert peaks[0][0] > 3.0


def test_reactions_balance():
    assert len(chemistry.REACTIONS) == 19
    for balance in (HYDROGEN, HELIUM_NUCLEI, CHARGE):
        np.testing.assert_array_equal(balance @ STOICHIOMETRY, 0)


def test_primordial_gas_conserves_nuclei_and_charge_and_only_cools():
    y = solved(SYSTEMS["primordial_onezone"], 8)
    densities, temperature = y[:, :-1], y[:, -1]
    hydrogen, helium = (np.einsum("s,nst->nt", nuclei, densities) for nuclei in (HYDROGEN, HELIUM_NUCLEI))
    np.testing.assert_allclose(hydrogen, hydrogen[:, :1] * np.ones_like(hydrogen), rtol=1e-9)
    np.testing.assert_allclose(helium, HELIUM * hydrogen, rtol=1e-9)
    electrons = np.einsum("s,nst->nt", CHARGE[1:], densities[:, 1:])
    np.testing.assert_allclose(densities[:, 0], electrons, rtol=1e-9)
    thermal = densities.sum(axis=1) * temperature
    assert (np.diff(thermal) <= 1e-7 * thermal[:, :-1]).all()


def test_hot_gas_at_rest_is_in_collisional_equilibrium():
    """Without cooling the ratio of two stages tends to ionisation over recombination, whatever the start."""
    system = SYSTEMS["primordial_onezone"]

    def isothermal(state, parameters):
        return [*system.rhs(state, parameters)[:-1], 0.0]

    at_rest = replace(system, rhs=isothermal, timesteps=np.array([1e7]))
    state = np.array([50.0, 50.0, 50.0, 1e-9, 1e-6, 1e-9, 8.0, 0.0, 0.0, 3e4])
    _, h, h_ion, *_, he, he_ion, he_nucleus, t = at_rest.solve(state).y[:, 0]
    assert h_ion / h == pytest.approx(chemistry.ionisation_of_h(t) / chemistry.recombination_of_h(t), rel=1e-4)
    assert he_ion / he == pytest.approx(chemistry.ionisation_of_he(t) / chemistry.recombination_of_he(t), rel=1e-4)
    expected = chemistry.ionisation_of_he_ion(t) / chemistry.recombination_of_he_nucleus(t)
    assert he_nucleus / he_ion == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("t", [1.5e4, 3e4, 1e5])
def test_ionisation_agrees_with_an_independent_fit(t):
    """G. S. Voronov (1997), At. Data Nucl. Data Tables 65, 1."""

    def voronov(energy, p, a, x, k):
        u = energy / (t * chemistry.EV_PER_K)
        return a * (1 + p * np.sqrt(u)) / (x + u) * u**k * np.exp(-u)

    assert chemistry.ionisation_of_h(t) == pytest.approx(voronov(13.6, 0, 0.291e-7, 0.232, 0.39), rel=0.3)
    assert chemistry.ionisation_of_he(t) == pytest.approx(voronov(24.6, 0, 0.175e-7, 0.180, 0.35), rel=0.3)
    assert chemistry.ionisation_of_he_ion(t) == pytest.approx(voronov(54.4, 1, 0.205e-8, 0.265, 0.25), rel=0.5)


@pytest.mark.parametrize("t", [100.0, 1e3, 1e4, 1e5])
def test_recombination_agrees_with_an_independent_fit(t):
    """L. Hui & N. Y. Gnedin (1997), MNRAS 292, 27, case A; one electron around a charge z: z alpha(T / z^2)."""
    x = 2 * 157807 / t
    assert chemistry.recombination_of_h(t) == pytest.approx(
        1.269e-13 * x**1.503 / (1 + (x / 0.522) ** 0.470) ** 1.923, rel=0.05
    )
    scaled = 2 * chemistry.recombination_of_h(t / 4)
    assert chemistry.recombination_of_he_nucleus(t) == pytest.approx(scaled, rel=0.05)
    if t <= 1e4:  # above, the dielectronic part takes over
        assert chemistry.recombination_of_he(t) == pytest.approx(3e-14 * (2 * 285335 / t) ** 0.654, rel=0.15)


@pytest.mark.parametrize("reaction", chemistry.REACTIONS, ids=lambda reaction: " + ".join(reaction.reactants))
def test_rate_coefficients_have_no_steps(reaction):
    """Pieces of a fit join within 4 %; a misplaced digit makes a larger step or a wild value."""
    t = np.geomspace(50, 2e5, 20_000)
    rate = np.array([reaction.rate(value) for value in t])
    assert (rate >= 0).all() and (rate < 1e-5).all()
    seen = rate > 1e-40
    steps = np.abs(np.diff(np.log(rate[seen])) - np.gradient(np.log(rate[seen]))[:-1])
    assert steps.max() < 0.04


def test_cooling_of_h2_is_that_of_later_calculations():
    """H2 with H at 1000 K, thin: 10^-24.31 erg cm^3 s^-1 in Glover & Abel 2008, 10^-24.08 in Lique 2015."""
    thin = cooling.h2_lines(1000.0, 1e-3) / 1e-3
    assert -24.4 < np.log10(thin) < -24.0
