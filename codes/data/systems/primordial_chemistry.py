"""Reactions of primordial gas between nine species of hydrogen and helium: two-body, collisional, in the gas phase.

The network is that of T. Abel, P. Anninos, Y. Zhang & M. L. Norman (1997), New Astronomy 2, 181, reactions (1) to (19)
in their order, and most coefficients are theirs. Where later measurements or calculations replaced theirs, or where one
smooth fit replaces pieces that do not join, the later source is taken; each function names its own. "Glover & Abel" is
S. C. O. Glover & T. Abel (2008), MNRAS 388, 1627, who tabulate both. Three-body reactions and collisions with excited
H2 are left out: they matter above 1e4 particles per cm^3 only. So are photons: no radiation field, no dust.
"""

from collections.abc import Callable, Sequence
from math import exp, log, log10, sqrt
from typing import NamedTuple

EV_PER_K = 8.617333262e-5  # Boltzmann's constant
SPECIES = ("e-", "H", "H+", "H-", "H2", "H2+", "He", "He+", "He++")

Rate = Callable[[float], float]


class Reaction(NamedTuple):
    """Two reactants, their products, the rate coefficient, and the thermal energy that one reaction takes."""

    reactants: list[str]
    products: list[str]
    rate: Rate  # cm^3 s^-1, of the temperature in K
    loss: float  # eV


REACTIONS: list[Reaction] = []


def reaction(equation: str, loss: float = 0.0) -> Callable[[Rate], Rate]:
    """Enter a rate coefficient into ``REACTIONS``; photons are not written."""

    def enter(rate: Rate) -> Rate:
        reactants, products = (side.split(" + ") for side in equation.split(" -> "))
        REACTIONS.append(Reaction(reactants, products, rate, loss))
        return rate

    return enter


def exp_series(coefficients: Sequence[float], x: float) -> float:
    """exp(c0 + c1 x + c2 x^2 + ...)."""
    return exp(series(coefficients, x))


def series(coefficients: Sequence[float], x: float) -> float:
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def ln_ev(t: float) -> float:
    """Logarithm of the temperature in eV, the variable of most fits of Abel et al."""
    return log(t * EV_PER_K)


@reaction("H + e- -> H+ + e- + e-", loss=13.6)
def ionisation_of_h(t: float) -> float:
    """Abel et al. 1997 (1), fit to R. K. Janev et al. (1987), Elementary Processes in Hydrogen-Helium Plasmas."""
    return exp_series(
        (
            -32.71396786375,
            13.53655609057,
            -5.739328757388,
            1.563154982022,
            -0.2877056004391,
            0.03482559773736999,
            -0.00263197617559,
            0.0001119543953861,
            -2.039149852002e-6,
        ),
        ln_ev(t),
    )


@reaction("H+ + e- -> H")
def recombination_of_h(t: float) -> float:
    """Abel et al. 1997 (2), case A, fit to G. J. Ferland et al. (1992), ApJ 387, 95."""
    return exp_series(
        (
            -28.61303380689232,
            -0.7241125657826851,
            -0.02026044731984691,
            -0.002380861877349834,
            -0.0003212605213188796,
            -1.421502914054107e-5,
            4.989108920299513e-6,
            5.755614137575758e-7,
            -1.856767039775261e-8,
            -3.071135243196595e-9,
        ),
        ln_ev(t),
    )


@reaction("He + e- -> He+ + e- + e-", loss=24.6)
def ionisation_of_he(t: float) -> float:
    """Abel et al. 1997 (3), fit to Janev et al. 1987."""
    return exp_series(
        (
            -44.09864886561001,
            23.91596563469,
            -10.75323019821,
            3.058038757198,
            -0.5685118909884001,
            0.06795391233790001,
            -0.005009056101857001,
            0.0002067236157507,
            -3.649161410833e-6,
        ),
        ln_ev(t),
    )


@reaction("He+ + e- -> He")
def recombination_of_he(t: float) -> float:
    """Abel et al. 1997 (4), radiative and dielectronic: J. H. Black (1981), MNRAS 197, 553, and S. M. V. Aldrovandi &
    D. Pequignot (1973), A&A 25, 137."""
    ev = t * EV_PER_K
    dielectronic = 1.54e-9 * ev**-1.5 * (1 + 0.3 * exp(-8.099328789667 / ev)) * exp(-40.49664394833662 / ev)
    return 3.92e-13 * ev**-0.6353 + dielectronic


@reaction("He+ + e- -> He++ + e- + e-", loss=54.4)
def ionisation_of_he_ion(t: float) -> float:
    """Abel et al. 1997 (5), fit to data of the AMDIS database of the IAEA (1989)."""
    return exp_series(
        (
            -68.71040990212001,
            43.93347632635,
            -18.48066993568,
            4.701626486759002,
            -0.7692466334492,
            0.08113042097303,
            -0.005324020628287001,
            0.0001975705312221,
            -3.165581065665e-6,
        ),
        ln_ev(t),
    )


@reaction("He++ + e- -> He+")
def recombination_of_he_nucleus(t: float) -> float:
    """L. Hui & N. Y. Gnedin (1997), MNRAS 292, 27, case A, fit to Ferland et al. 1992 from 3 to 1e9 K; for (6)."""
    x = 2 * 631515 / t
    return 2 * 1.269e-13 * x**1.503 / (1 + (x / 0.522) ** 0.470) ** 1.923


@reaction("H + e- -> H-")
def attachment(t: float) -> float:
    """Abel et al. 1997 (7), fit to A. W. Wishart (1979), MNRAS 187, 59P."""
    x = log10(t)
    if t < 6000:
        return float(10 ** series((-17.845, 0.762, 0.1523, -0.03274), x))
    return float(10 ** series((-16.4199, 0.1998, -5.447e-3, 4.0415e-5), x * x))


@reaction("H- + H -> H2 + e-")
def associative_detachment(t: float) -> float:
    """H. Kreckel et al. (2010), Science 329, 69, measured; for (8)."""
    gain = t**9.8493e-2 + 0.32852 * t**0.5561 + 2.771e-7 * t**2.1826
    return 1.35e-9 * gain / (1 + 6.191e-3 * t**1.0461 + 8.9712e-11 * t**3.0424 + 3.2576e-14 * t**3.7741)


@reaction("H + H+ -> H2+")
def radiative_association(t: float) -> float:
    """D. E. Ramaker & J. M. Peek (1976), Phys. Rev. A 13, 58, as fitted by D. Galli & F. Palla (1998), A&A 335, 403,
    and tabulated by Glover & Abel; for (9)."""
    return float(10 ** series((-19.38, -1.523, 1.118, -0.1269), log10(t)))


@reaction("H2+ + H -> H2 + H+")
def charge_transfer_to_h2_ion(t: float) -> float:
    """Z. Karpas, V. Anicich & W. T. Huntress (1979), J. Chem. Phys. 70, 2877, as in Glover & Abel; for (10)."""
    return 6.4e-10


@reaction("H2 + H+ -> H2+ + H")
def charge_transfer_from_h2(t: float) -> float:
    """D. W. Savin et al. (2004), ApJ 606, L167 and 607, L147; for (11). The series holds from 100 to 30,000 K."""
    coefficients = (
        -3.3232183e-7,
        3.3735382e-7,
        -1.4491368e-7,
        3.4172805e-8,
        -4.7813720e-9,
        3.9731542e-10,
        -1.8171411e-11,
        3.5311932e-13,
    )
    return exp(-21237.15 / t) * series(coefficients, log(min(max(t, 100.0), 3e4)))


@reaction("H2 + e- -> H + H + e-", loss=4.48)
def dissociation_by_electrons(t: float) -> float:
    """C. S. Trevisan & J. Tennyson (2002), Plasma Phys. Control. Fusion 44, 1263, ground state; for (12)."""
    return 4.4886e-9 * t**0.109127 * exp(-101858 / t)


@reaction("H2 + H -> H + H + H", loss=4.48)
def dissociation_by_atoms(t: float) -> float:
    """Abel et al. 1997 (13), from A. J. Dove & M. E. Mandy (1986), ApJ 311, L93; low density."""
    ev = t * EV_PER_K
    return 1.0670825e-10 * ev**2.012 * exp(-4.463 / ev) / (1 + 0.2472 * ev) ** 3.512


@reaction("H- + e- -> H + e- + e-")
def detachment_by_electrons(t: float) -> float:
    """Abel et al. 1997 (14), fit to Janev et al. 1987."""
    return exp_series(
        (
            -18.01849334273,
            2.360852208681,
            -0.2827443061704,
            0.01623316639567,
            -0.03365012031362999,
            0.01178329782711,
            -0.001656194699504,
            0.0001068275202678,
            -2.631285809207e-6,
        ),
        ln_ev(t),
    )


@reaction("H- + H -> H + H + e-")
def detachment_by_atoms(t: float) -> float:
    """Abel et al. 1997 (15), fit to Janev et al. 1987, with their power law below 0.1 eV."""
    ev = t * EV_PER_K
    if ev < 0.1:
        return 2.56e-9 * ev**1.78186
    return exp_series(
        (
            -20.37260896533324,
            1.139449335841631,
            -0.1421013521554148,
            0.00846445538663,
            -0.0014327641212992,
            0.0002012250284791,
            8.66396324309e-5,
            -2.585009680264e-5,
            2.4555011970392e-6,
            -8.06838246118e-8,
        ),
        log(ev),
    )


@reaction("H- + H+ -> H + H")
def mutual_neutralisation(t: float) -> float:
    """H. Croft, A. S. Dickinson & F. X. Gadea (1999), MNRAS 304, 327, as in Glover & Abel; for (16)."""
    return 2.4e-6 / sqrt(t) * (1 + t / 2e4)


@reaction("H- + H+ -> H2+ + e-")
def associative_ionisation(t: float) -> float:
    """G. Poulaert et al. (1978), J. Phys. B 11, L671, as in Glover & Abel; for (17)."""
    return min(6.9e-9 * t**-0.35, 9.6e-7 * t**-0.9)


@reaction("H2+ + e- -> H + H")
def dissociative_recombination(t: float) -> float:
    """Abel et al. 1997 (18), from I. F. Schneider et al. (1994), ApJ 424, 983."""
    return 1e-8 if t < 617 else 1.32e-6 * t**-0.76


@reaction("H2+ + H- -> H2 + H")
def neutralisation_of_h2_ion(t: float) -> float:
    """Abel et al. 1997 (19), from A. Dalgarno & S. Lepp (1987), in Astrochemistry (IAU Symposium 120), p. 109."""
    return 5e-6 / sqrt(t)
