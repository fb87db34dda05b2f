"""Logarithm of the regularised incomplete beta function, to full relative accuracy.

`scipy.special.betainc` underflows and the difference of log-gammas in its prefactor loses nine
digits at parameters near a million. Both are avoided here: the prefactor is written as a deviance
(whose large terms cancel before they are rounded), the rest is a continued fraction.
"""

import math

# Stirling series 1/(12 a) - 1/(360 a^3) + ..., as coefficients of a^-1, a^-3, ...
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_STIRLING_MINIMUM = 10.0  # from here on the seven terms above reach 1e-17
_MAX_FRACTION_TERMS = 100_000


def stirling_remainder(a: float) -> float:
    """Return log Gamma(a) - [(a - 1/2) log a - a + log(2 pi)/2] for a > 0."""
    shift = 0.0
    while a < _STIRLING_MINIMUM:  # remainder(a) = remainder(a + 1) + (a + 1/2) log(1 + 1/a) - 1
        shift += (a + 0.5) * math.log1p(1 / a) - 1
        a += 1
    total = 0.0
    for coefficient in reversed(_STIRLING):
        total = total / (a * a) + coefficient
    return shift + total / a


def log1p_minus(ratio: float, excess: float) -> float:
    """Return log(ratio) - excess for ratio = 1 + excess, without cancellation near ratio 1."""
    if not -0.4 < excess < 0.6:
        return math.log(ratio) - excess
    # log(1 + e) = 2 artanh(r) with r = e / (2 + e), and 2 r - e = -e r: the linear terms cancel.
    r = excess / (2 + excess)
    square, total, power, n = r * r, 0.0, 1.0, 3
    while power > 1e-18:
        total += power / n
        power *= square
        n += 2
    return 2 * r * square * total - excess * r


def log_power_term(a: float, b: float, x: float, y: float, log_x: float | None = None) -> float:
    """Return log[x^a y^b / B(a, b)] for y = 1 - x; `log_x` may stand in for an x that underflows.

    With n = a + b the two powers are compared with their values at x = a/n, where the term is
    sqrt(a b / (2 pi n)) up to Stirling remainders; what is left is the deviance.
    """
    n = a + b
    delta = x - a / n if x < 0.5 else b / n - y
    if log_x is not None and x * n < 1e-3 * a:
        deviance_x = log_x - math.log(a / n) - (x * n / a - 1)
    else:
        deviance_x = log1p_minus(x * n / a, delta * n / a)
    deviance = a * deviance_x + b * log1p_minus(y * n / b, -delta * n / b)
    remainder = stirling_remainder(n) - stirling_remainder(a) - stirling_remainder(b)
    return deviance + 0.5 * math.log(a * b / (2 * math.pi * n)) + remainder


def _continued_fraction(a: float, b: float, x: float, y: float, excess: float) -> float:
    """Return I_x(a, b) B(a, b) / (x^a y^b) for x below the mean a/(a + b).

    The even part of the continued fraction DLMF 8.17.22, as Didonato & Morris (1992, BFRAC) write
    it with excess = a y - b x >= 0, evaluated by the modified Lentz algorithm. The odd-even form
    would subtract nearly equal numbers where b is much smaller than a.
    """
    ratio = 1 + 1 / a
    denominator = (1 + excess) / ratio
    value, c, d = 1 / denominator, math.inf, 1 / denominator
    for n in range(1, _MAX_FRACTION_TERMS):
        t = n / a
        w = n * (b - n) * x
        s = a + 2 * n - 1
        before = 1 + (n - 1) / a
        alpha = before * (before + b / a) * (a / s) ** 2 * w * x
        beta = n + w / s + (1 + t) / (ratio + 2 * t) * (1 + excess + n * (1 + y))
        d = 1 / (beta + alpha * d)
        c = beta + alpha / c
        value *= c * d
        if abs(c * d - 1) < 2e-16:
            return value
    raise ArithmeticError(f"The continued fraction did not converge at a={a}, b={b}, x={x}.")


def log_betainc(a: float, b: float, x: float, y: float, log_x: float | None = None) -> float:
    """Return log I_x(a, b) for y = 1 - x, both given so that neither loses digits."""
    if x <= 0 and (log_x is None or log_x == -math.inf):
        return -math.inf
    if y <= 0:
        return 0.0
    excess = a - (a + b) * x if x < 0.5 else (a + b) * y - b
    if excess >= 0:
        fraction = _continued_fraction(a, b, x, y, excess)
        return min(log_power_term(a, b, x, y, log_x) + math.log(fraction), 0.0)
    fraction = _continued_fraction(b, a, y, x, -excess)
    complement = math.exp(log_power_term(b, a, y, x)) * fraction
    return math.log1p(-complement) if complement < 1 else -math.inf
