//! Functions that map the value of each sample, and nothing else.

use crate::math;

/// The function called `name`, if it takes nothing but an instant vector.
pub(crate) fn find(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => ln,
        "log2" => log2,
        "log10" => log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => sinh,
        "cosh" => cosh,
        "tanh" => f64::tanh,
        "asinh" => asinh,
        "acosh" => acosh,
        "atanh" => f64::atanh,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        _ => return crate::date::function(name),
    })
}

/// Splits a positive finite number into a fraction of at least 0.5 and less than 1, and a power of two.
fn frexp(v: f64) -> (f64, i32) {
    const FRACTION_BITS: u32 = 52;
    /// Of the exponent, so that the fraction is in [0.5, 1).
    const BIAS: i32 = 1022;
    // Subnormal numbers are scaled up first.
    let (v, shift) = if v < f64::MIN_POSITIVE { (v * 2f64.powi(54), 54) } else { (v, 0) };
    let bits = v.to_bits();
    let exponent = (bits >> FRACTION_BITS & 0x7ff) as i32 - BIAS;
    let fraction = bits & !(0x7ff << FRACTION_BITS) | (BIAS as u64) << FRACTION_BITS;
    (f64::from_bits(fraction), exponent - shift)
}

/// The natural logarithm by the method of fdlibm, as in Go: up to one unit in the last place from that of the C library.
fn ln(v: f64) -> f64 {
    const LN2_HI: f64 = 6.931_471_803_691_238e-1;
    const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
    const L: [f64; 7] = [
        6.666_666_666_666_735e-1,
        3.999_999_999_940_942e-1,
        2.857_142_874_366_239e-1,
        2.222_219_843_214_978_4e-1,
        1.818_357_216_161_805e-1,
        1.531_383_769_920_937_3e-1,
        1.479_819_860_511_658_6e-1,
    ];
    if v.is_nan() || v == f64::INFINITY {
        return v;
    }
    if v <= 0.0 {
        return if v == 0.0 { f64::NEG_INFINITY } else { f64::NAN };
    }
    // v = 2^k * (1 + f), with 1 + f between the roots of 1/2 and 2.
    let (mut fraction, mut exponent) = frexp(v);
    if fraction < std::f64::consts::SQRT_2 / 2.0 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let (f, k) = (fraction - 1.0, f64::from(exponent));
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (L[0] + s4 * (L[2] + s4 * (L[4] + s4 * L[6])));
    let even = s4 * (L[1] + s4 * (L[3] + s4 * L[5]));
    let half_square = 0.5 * f * f;
    k * LN2_HI - ((half_square - (s * (half_square + (odd + even)) + k * LN2_LO)) - f)
}

/// Go's `math.Log2`: exact for powers of two.
pub(crate) fn log2(v: f64) -> f64 {
    if v.is_nan() || v == f64::INFINITY || v <= 0.0 {
        return ln(v);
    }
    let (fraction, exponent) = frexp(v);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * std::f64::consts::LOG2_E + f64::from(exponent)
}

/// Go's `math.Exp2`, by the method of fdlibm.
pub(crate) fn exp2(v: f64) -> f64 {
    const LN2_HI: f64 = 6.931_471_803_691_238e-1;
    const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
    const P: [f64; 5] = [
        1.666_666_666_666_666_6e-1,
        -2.777_777_777_701_559_3e-3,
        6.613_756_321_437_934e-5,
        -1.653_390_220_546_525_2e-6,
        4.138_136_797_057_238_5e-8,
    ];
    if v.is_nan() {
        return v;
    }
    if v > 1.023_999_999_999_999_9e3 {
        return f64::INFINITY;
    }
    if v < -1074.0 {
        return 0.0;
    }
    // v = k + t with |t| of at most a half; 2^t = e^(t * ln 2).
    let k = (v + 0.5f64.copysign(v)).trunc();
    let t = v - k;
    let (high, low) = (t * LN2_HI, -t * LN2_LO);
    let r = high - low;
    let r2 = r * r;
    let c = r - r2 * (P[0] + r2 * (P[1] + r2 * (P[2] + r2 * (P[3] + r2 * P[4]))));
    ldexp(1.0 - ((low - (r * c) / (2.0 - c)) - high), k as i64)
}

/// Go's `math.Log10`.
fn log10(v: f64) -> f64 {
    ln(v) * std::f64::consts::LOG10_E
}

/// Go's `math.Pow`: integer powers by repeated squaring, the rest through the logarithm.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    /// Beyond this exponent of two the result is infinite or zero.
    const EXPONENT_MAX: i64 = 1 << 12;
    let (whole, part) = (y.abs().trunc(), y.abs().fract());
    let special = x == 0.0 || !x.is_finite() || !y.is_finite() || whole >= 2f64.powi(63) || (part != 0.0 && x < 0.0);
    // Where Go and C agree to the bit.
    if special || y == 0.0 || y == 1.0 || x == 1.0 {
        return x.powf(y);
    }
    if y.abs() == 0.5 {
        return if y > 0.0 { x.sqrt() } else { 1.0 / x.sqrt() };
    }
    let (mut result, mut exponent) = (1.0, 0i64);
    let (mut whole, mut part) = (whole as i64, part);
    if part != 0.0 {
        if part > 0.5 {
            part -= 1.0;
            whole = whole.saturating_add(1);
        }
        result = (part * ln(x)).exp();
    }
    let (fraction, power) = frexp(x.abs());
    let (mut square, mut power) = (fraction.copysign(x), i64::from(power));
    while whole != 0 {
        if power.abs() > EXPONENT_MAX {
            exponent += power;
            break;
        }
        if whole & 1 == 1 {
            result *= square;
            exponent += power;
        }
        square *= square;
        power *= 2;
        if square < 0.5 {
            square += square;
            power -= 1;
        }
        whole >>= 1;
    }
    if y < 0.0 {
        result = 1.0 / result;
        exponent = -exponent;
    }
    ldexp(result, exponent)
}

/// `v * 2^exponent`, rounded once.
fn ldexp(v: f64, exponent: i64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    // Brought to [0.5, 1) first, so that only the last of the factors can leave the normal numbers.
    let (fraction, own) = frexp(v.abs());
    let exponent = exponent.saturating_add(i64::from(own)).clamp(-1200, 1200) as i32;
    let scaled = if exponent > 1000 {
        fraction * 2f64.powi(1000) * 2f64.powi(exponent - 1000)
    } else if exponent < -1000 {
        fraction * 2f64.powi(-1000) * 2f64.powi(exponent + 1000)
    } else {
        fraction * 2f64.powi(exponent)
    };
    scaled.copysign(v)
}

/// From here on Go takes the half of `exp` for both, which overflows a little earlier than the function itself.
const HALF_EXP_FROM: f64 = 21.0;

/// Go's `math.Sinh`.
fn sinh(v: f64) -> f64 {
    if v.abs() > HALF_EXP_FROM { (v.abs().exp() * 0.5).copysign(v) } else { v.sinh() }
}

/// Go's `math.Cosh`.
fn cosh(v: f64) -> f64 {
    if v.abs() > HALF_EXP_FROM { v.abs().exp() * 0.5 } else { v.cosh() }
}

/// Go's `math.Asinh`, whose branches differ from those of the standard library.
fn asinh(v: f64) -> f64 {
    if v.is_nan() || v.is_infinite() {
        return v;
    }
    let x = v.abs();
    let result = if x > 268_435_456.0 {
        ln(x) + std::f64::consts::LN_2
    } else if x > 2.0 {
        ln(2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x))
    } else if x < 1.0 / 268_435_456.0 {
        x
    } else {
        (x + x * x / (1.0 + (1.0 + x * x).sqrt())).ln_1p()
    };
    result.copysign(v)
}

/// Go's `math.Acosh`.
fn acosh(v: f64) -> f64 {
    if v < 1.0 || v.is_nan() {
        f64::NAN
    } else if v == 1.0 {
        0.0
    } else if v >= 268_435_456.0 {
        ln(v) + std::f64::consts::LN_2
    } else if v > 2.0 {
        ln(2.0 * v - 1.0 / (v + (v * v - 1.0).sqrt()))
    } else {
        let t = v - 1.0;
        (t + (2.0 * t + t * t).sqrt()).ln_1p()
    }
}

/// To the nearest multiple of `nearest`, halves up. Divides by the inverse, which is exact for `0.1` where a
/// multiplication is not.
pub(crate) fn round(v: f64, nearest: f64) -> f64 {
    let inverse = 1.0 / nearest;
    (v * inverse + 0.5).floor() / inverse
}

/// `clamp`; the caller has checked that `low <= high` or one is NaN.
pub(crate) fn clamp(v: f64, low: f64, high: f64) -> f64 {
    math::max(low, math::min(high, v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_mapped() {
        for (name, v, want) in [
            ("sgn", -3.0, -1.0),
            ("sgn", 0.0, 0.0),
            ("deg", std::f64::consts::PI, 180.0),
            ("acosh", 1.0, 0.0),
            ("asinh", 0.0, 0.0),
            ("year", 0.0, 1970.0),
            ("sinh", -710.0, f64::NEG_INFINITY),
            ("sinh", 0.0, 0.0),
            ("cosh", 710.0, f64::INFINITY),
            ("cosh", 0.0, 1.0),
        ] {
            assert_eq!(find(name).unwrap()(v), want, "{name}({v})");
        }
        for v in [0.1, 1.5, 3.0, 1e9, -0.1, -7.0] {
            assert!((asinh(v) - v.asinh()).abs() < 1e-12, "{v}");
            assert!(v < 1.0 || (acosh(v) - v.acosh()).abs() < 1e-12, "{v}");
        }
        assert!(find("sgn").unwrap()(f64::NAN).is_nan() && acosh(0.5).is_nan());
    }

    fn close(a: f64, b: f64) -> bool {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-14 * b.abs().max(f64::MIN_POSITIVE)
    }

    #[test]
    fn logarithms_and_powers_are_those_of_go_to_the_bit() {
        for (name, v, want) in [
            ("ln", 0.09_f64, -2.407945608651872),
            ("log2", 8.0, 3.0),
            ("log2", 5e-324, -1074.0),
            ("log10", 1000.0, 3.0),
            ("ln", 0.0, f64::NEG_INFINITY),
            ("log10", f64::INFINITY, f64::INFINITY),
        ] {
            assert_eq!(find(name).unwrap()(v), want, "{name}({v})");
        }
        assert!(ln(-1.0).is_nan() && log2(-1.0).is_nan() && log10(f64::NAN).is_nan());
        for (x, y, want) in [
            (2.0, 10.0, 1024.0),
            (2.0, -1074.0, 5e-324),
            (2.0, -1075.0, 0.0),
            (2.0, 1024.0, f64::INFINITY),
            (-2.0, 3.0, -8.0),
            (-2.0, -1073.0, -1e-323),
            (-8.0, 1.0 / 3.0, f64::NAN),
            (0.0, -1.0, f64::INFINITY),
            (-1.0, f64::INFINITY, 1.0),
            (1.0, f64::NAN, 1.0),
            (9.0, 0.5, 3.0),
            (1.7, -13.0, 0.0010096341274486453),
            (1.0000000000000002, 1e18, 2.7086066226946625e96),
        ] {
            let got = pow(x, y);
            assert!(got == want || (got.is_nan() && want.is_nan()) || close(got, want), "{x}^{y}: {got}");
        }
    }

    proptest::proptest! {
        #[test]
        fn logarithms_and_powers_are_close_to_those_of_the_library(bits: u64, x in -1e3..1e3f64, y in -60.0..60f64, n in -70i32..70) {
            let v = f64::from_bits(bits);
            proptest::prop_assert!(close(ln(v), v.ln()), "ln({v:e})");
            proptest::prop_assert!(close(log2(v), v.log2()) || (v - 1.0).abs() < 1e-3, "log2({v:e})");
            proptest::prop_assert!(close(log10(v), v.log10()) || (v - 1.0).abs() < 1e-3, "log10({v:e})");
            for (x, y) in [(x, f64::from(n)), (x.abs(), y), (x, y)] {
                let (got, want) = (pow(x, y), x.powf(y));
                let same = got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= 1e-12 * want.abs();
                proptest::prop_assert!(same, "{x:e}^{y:e}: {got:e} instead of {want:e}");
            }
        }
    }

    #[test]
    fn rounding_goes_up_at_halves() {
        for (v, nearest, want) in [(2.5, 1.0, 3.0), (-2.5, 1.0, -2.0), (5.2, 0.1, 5.2), (12.5, 5.0, 15.0)] {
            assert_eq!(round(v, nearest), want);
        }
    }
}
